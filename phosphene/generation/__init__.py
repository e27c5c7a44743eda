"""Pictures made on request: asked for, checked, drawn as a job, kept with what they were made from."""
