from __future__ import annotations

import pytest

from phosphene.addresses import kept, told


@pytest.mark.parametrize(
    ("address", "as_told", "as_kept"),
    [
        ("/pictures/a?b=c.jpg", "/pictures/a?b=c.jpg", "/pictures/a?b=c.jpg"),
        ("https://x.org/a.jpg", "https://x.org/a.jpg", "https://x.org/a.jpg"),
        ("https://x.org/a?id=7", "https://x.org/a?id=***", "https://x.org/a?id=7"),
        ("https://x.org/a?s3cret", "https://x.org/a?***", "https://x.org/a?s3cret"),
        ("https://me:pw@x.org/a?", "https://***@x.org/a?", "https://***@x.org/a?"),
        ("HTTPS://x.org/a?id=7&SIG=abc#d", "HTTPS://x.org/a?id=***&SIG=***", "HTTPS://x.org/a?id=7&SIG=***#d"),
        (
            "https://x.org/a?X-Amz-Date=1&X-Amz-Signature=2&design=3",
            "https://x.org/a?X-Amz-Date=***&X-Amz-Signature=***&design=***",
            "https://x.org/a?X-Amz-Date=***&X-Amz-Signature=***&design=3",
        ),
        (
            "https://x.org/0.tar?sig=a::b.jpg",
            "https://x.org/0.tar?sig=***::b.jpg",
            "https://x.org/0.tar?sig=***::b.jpg",
        ),
        ("s3://b/a.jpg?versionId=7", "s3://b/a.jpg?versionId=***", "s3://b/a.jpg?versionId=7"),
    ],
)
def test_what_opens_doors_is_neither_told_nor_kept(address: str, as_told: str, as_kept: str) -> None:
    assert (told(address), kept(address)) == (as_told, as_kept)
    assert kept(as_kept) == as_kept
