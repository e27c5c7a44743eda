"""Words for pictures: classes, keywords, descriptions, labels learned from examples, and what needs a second look."""
