"""Is the best hit a match at all? Evidence, calibration on the catalogue's own captions, decision."""
