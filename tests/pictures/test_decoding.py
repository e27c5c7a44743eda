from __future__ import annotations

import errno
import fcntl
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phosphene.decoder_memory import SHARED_BYTES, share
from phosphene.decoding import DecoderPool
from phosphene.errors import PictureError, PictureFault, Unavailable
from phosphene.images import Limits, fit, open_picture, thumbnail
from phosphene.types import PixelSpec
from tests.pictures.samples import LIMITS, encoded, jpeg, picture

SPEC = PixelSpec(size=64)
MEMORY = 2 * 2**30
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def new_pool(
    *, processes: int = 2, timeout_s: float = 30, memory_bytes: int = MEMORY, limits: Limits = LIMITS
) -> DecoderPool:
    return DecoderPool(processes=processes, limits=limits, timeout_s=timeout_s, memory_bytes=memory_bytes)


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    with new_pool() as made:
        yield made


@pytest.fixture
def lone() -> Iterator[DecoderPool]:
    """A pool of one process, started already."""
    with new_pool(processes=1) as made:
        made.decode(jpeg(), spec=SPEC).result()
        yield made


def pid_of(pool: DecoderPool) -> int:
    (child,) = pool._children
    return child.process.pid


def memory_held() -> tuple[int, int]:
    """Count the files and the mappings of memory that we share with decoders."""
    files = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    maps = Path("/proc/self/maps").read_text()
    return sum("phosphene-pixels" in str(file) for file in files), maps.count("phosphene-pixels")


def eventually(condition: Callable[[], bool], *, within_s: float = 20) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(params=[pytest.param(True, marks=linux_only, id="in_memory"), pytest.param(False, id="over_socket")])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Pixels come through shared memory, and over the socket as where no memory can be shared."""

    def refused(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if not request.param:
        monkeypatch.setattr("os.memfd_create", refused, raising=False)
    return bool(request.param)


def test_a_decoded_picture_is_what_the_plain_functions_give(shared: bool) -> None:  # noqa: FBT001  # a fixture
    largest = math.isqrt(SHARED_BYTES // 3)
    opened, info = open_picture(jpeg(300, 200), LIMITS)
    with new_pool(processes=1) as pool:
        for size in (largest + 1, largest, 64):
            spec = PixelSpec(size=size)
            decoded = pool.decode(jpeg(300, 200), spec=spec).result()
            pool.decode(jpeg(seed=1), spec=spec).result()  # what was given out stays what it was
            assert decoded.info == info
            assert decoded.pixels is not None
            assert (str(decoded.pixels.dtype), decoded.pixels.shape) == ("uint8", (size, size, 3))
            assert np.array_equal(decoded.pixels, fit(opened, spec))
            assert decoded.pixels.flags.writeable
            assert decoded.thumbnail == thumbnail(opened, 256)
        (child,) = pool._children
        assert decoded.pixels is not None
        assert (child.memory is not None) is shared
        if child.memory is not None:
            pool.decode(jpeg(300, 200), spec=spec).result()
            assert child.memory[: decoded.pixels.nbytes] == decoded.pixels.tobytes()


@linux_only
def test_a_decoder_can_not_cut_the_memory_short_that_its_parent_reads() -> None:
    memory, file = share()
    assert memory is not None
    for length in (0, SHARED_BYTES - 1, SHARED_BYTES + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(file, length)
    with pytest.raises(PermissionError):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(file)
    with pytest.raises(TypeError, match="readonly"):
        memory[0] = 1
    memory.close()


HOSTILE = """
from phosphene import decoder_child
honest = decoder_child._answer

def answer(request, limits):
    header, pixels, rest = honest(request, limits)
    match header["info"]["width"]:
        case 41:
            return header | {"pixels": [10**6, 10**6, 3]}, pixels, rest
        case 42:
            return header | {"pixels": None}, None, rest
        case 43:
            return header | {"pixels": [32, 32, 3]}, pixels[:32, :32].copy(), b""
        case 44:
            return header, None, b""
    return header, pixels, rest

decoder_child._answer = answer
decoder_child.main()
"""


def test_pixels_are_as_many_as_were_asked_for_whatever_a_decoder_says(
    shared: bool,  # noqa: FBT001  # a fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "hostile_decoder.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("phosphene.decoding._CHILD", "hostile_decoder")
    with new_pool(processes=1) as pool:
        good = pool.decode(jpeg(40), spec=SPEC).result()
        for width in (41, 42, 43) if shared else (41, 42, 43, 44):  # 44 lays nothing there: what lies there is its own
            with pytest.raises(PictureError, match="other pixels") as caught:
                pool.decode(jpeg(width), spec=SPEC).result()
            assert caught.value.fault is PictureFault.DECODER_DIED
        again = pool.decode(jpeg(40), spec=SPEC).result()
        assert good.pixels is not None
        assert again.pixels is not None
        assert np.array_equal(again.pixels, good.pixels)
        assert [child.memory is not None for child in pool._children] == [shared]


WITHOUT_SENSE = """
from phosphene import decoder_child, decoder_wire
honest = decoder_child._answer

def answer(request, limits):
    header, pixels, rest = honest(request, limits)
    info = header["info"]
    match info["width"]:
        case 41:
            del header["info"]
        case 42:
            header["info"] = [1, 2]
        case 43:
            header["info"] = {name: value for name, value in info.items() if name != "phash"}
        case 44:
            info["height"] = "many"
        case 45:
            info["sha256"] = "../../../../etc/passwd"
        case 46:
            info["more"] = 1
        case 47:
            header["attributes"] = None
        case 48:
            header["attributes"]["sharpness"] = float("nan")
        case 49:
            header = {"fault": "no such fault", "message": 7}
        case 50:
            decoder_wire.json.dumps = lambda _: "[" * 50_000
    return header, pixels, rest

decoder_child._answer = answer
decoder_child.main()
"""


@pytest.mark.parametrize("width", range(41, 51))
def test_an_answer_without_sense_is_the_fault_of_that_picture(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "senseless_decoder.py").write_text(WITHOUT_SENSE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("phosphene.decoding._CHILD", "senseless_decoder")
    with new_pool(processes=1) as pool:
        pool.decode(jpeg(40), spec=SPEC).result()
        with pytest.raises(PictureError, match="the decoder broke down on this picture") as caught:
            pool.decode(jpeg(width), spec=SPEC).result()
        assert caught.value.fault is PictureFault.DECODER_DIED
        assert pool.decode(jpeg(40), spec=SPEC).result().pixels is not None


def test_what_is_not_asked_for_is_not_made(pool: DecoderPool) -> None:
    decoded = pool.decode(jpeg(), spec=None, thumbnail=False).result()
    assert (decoded.pixels, decoded.thumbnail) == (None, None)
    assert pool.decode(jpeg(), spec=None).result().thumbnail


@pytest.mark.parametrize("side", [256, 1024])
def test_previews(pool: DecoderPool, side: int) -> None:
    preview = pool.resize(encoded(picture(2000, 1000)), side=side).result()
    assert Image.open(BytesIO(preview)).size == (side, side // 2)


def test_many_pictures_from_many_threads_come_back_to_their_callers(pool: DecoderPool) -> None:
    wrong: list[int] = []

    def ask(first: int) -> None:
        for seed in range(first, first + 12):
            data = jpeg(50 + seed, 40, seed=seed)
            decoded = pool.decode(data, spec=SPEC).result()
            if decoded.info.width != 50 + seed or not np.array_equal(
                decoded.pixels if decoded.pixels is not None else (), fit(open_picture(data, LIMITS)[0], SPEC)
            ):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 48, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", PictureFault.EMPTY),
        (b"a letter", PictureFault.NOT_A_PICTURE),
        (jpeg(400, 300)[:2000], PictureFault.TRUNCATED),
        (encoded(Image.new("1", (9000, 9000))), PictureFault.TOO_MANY_PIXELS),
        (jpeg()[:2] + os.urandom(500), PictureFault.NOT_A_PICTURE),
        (b"%PDF-1.4 ", PictureFault.UNSUPPORTED_FORMAT),
        (bytes(70 * 2**20), PictureFault.TOO_MANY_BYTES),
    ],
)
def test_a_bad_picture_says_why_and_its_neighbours_are_fine(
    pool: DecoderPool, data: bytes, fault: PictureFault
) -> None:
    before, bad, after = (pool.decode(each, spec=SPEC) for each in (jpeg(), data, jpeg(seed=1)))
    with pytest.raises(PictureError) as caught:
        bad.result()
    assert caught.value.fault is fault
    assert before.result().pixels is not None
    assert after.result().pixels is not None


@linux_only
def test_a_picture_that_hangs_the_decoder_costs_itself_only() -> None:
    with new_pool(processes=1, timeout_s=1.5) as pool:
        pool.decode(jpeg(), spec=SPEC).result()
        first = pid_of(pool)
        os.kill(first, signal.SIGSTOP)  # hangs as thoroughly as any decoder could
        hung, neighbour = pool.decode(jpeg(), spec=SPEC), pool.decode(jpeg(seed=1), spec=SPEC)
        with pytest.raises(PictureError) as caught:
            hung.result()
        assert caught.value.fault is PictureFault.DECODER_TIMED_OUT
        assert "1.5 s" in str(caught.value)
        assert neighbour.result().pixels is not None
        assert gone(first)
        assert pid_of(pool) != first


@linux_only
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_decoder_that_dies_costs_one_picture(lone: DecoderPool, how: signal.Signals) -> None:
    first = pid_of(lone)
    os.kill(first, signal.SIGSTOP)
    lost = lone.decode(jpeg(), spec=SPEC)
    neighbours = [lone.decode(jpeg(seed=seed), spec=SPEC) for seed in range(5)]
    assert eventually(lost.running)
    time.sleep(0.1)  # the bytes are on their way
    os.kill(first, how)
    os.kill(first, signal.SIGCONT)
    with pytest.raises(PictureError) as caught:
        lost.result()
    assert caught.value.fault is PictureFault.DECODER_DIED
    assert how.name in str(caught.value)
    assert all(neighbour.result().pixels is not None for neighbour in neighbours)


@linux_only
def test_decoders_that_died_while_idle_cost_nothing_and_leave_nothing(lone: DecoderPool) -> None:
    files, maps = memory_held()
    for _ in range(3):
        first = pid_of(lone)
        os.kill(first, signal.SIGKILL)
        while not gone(first):
            time.sleep(0.01)
        assert lone.decode(jpeg(), spec=SPEC).result().pixels is not None
        assert memory_held() == (files, maps)
    lone.close()
    assert memory_held() == (files - 1, maps - 1)


@linux_only
def test_a_picture_that_needs_too_much_memory_costs_itself_only() -> None:
    with new_pool(processes=1, memory_bytes=256 * 2**20) as pool:
        huge = pool.decode(encoded(Image.new("RGBA", (7000, 7000), (1, 2, 3, 4))), spec=SPEC)
        neighbour = pool.decode(jpeg(), spec=SPEC)
        with pytest.raises(PictureError) as caught:
            huge.result()
        assert caught.value.fault is PictureFault.DECODER_DIED
        assert "256 MB" in str(caught.value)
        assert neighbour.result().pixels is not None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "I;16", "F"])
def test_the_largest_allowed_picture_fits_into_the_default_memory(lone: DecoderPool, mode: str) -> None:
    data = encoded(
        Image.new(mode, (7071, 7071)),
        "TIFF" if mode in ("CMYK", "F") else "PNG",
        **({"compression": "tiff_deflate"} if mode in ("CMYK", "F") else {"compress_level": 1}),
    )
    decoded = lone.decode(data, spec=SPEC).result()
    assert decoded.info.width == 7071


@linux_only
def test_children_hold_pillow_and_numpy_but_not_torch_nor_our_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with new_pool(processes=1) as pool:
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
            pool.decode(encoded(picture(40, 30), kind), spec=SPEC).result()
        child = Path(f"/proc/{pid_of(pool)}")
        assert b"hidden" not in (child / "environ").read_bytes()
        mapped = (child / "maps").read_text()
        assert "PIL" in mapped
        assert not [name for name in ("torch", "scipy", "qdrant", "pydantic") if f"/{name}" in mapped]
        status = (child / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        limits = (child / "limits").read_text()
        assert f"Max address space         {MEMORY}" in limits
        assert "Max core file size        0" in limits


def in_sandbox(code: str) -> str:
    script = "from phosphene.sandbox import *\nimport os, socket, subprocess\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip() + done.stderr.strip().rpartition("\n")[2]


@linux_only
@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.socket(socket.AF_UNIX)",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_the_sandbox_refuses_network_and_programs(attempt: str) -> None:
    shown = in_sandbox(f"""
        if not forbid_network_and_programs():
            print("no seccomp here")
            raise SystemExit
        {attempt}
    """)
    if shown == "no seccomp here":
        pytest.skip(shown)
    assert "PermissionError" in shown


@linux_only
def test_the_sandbox_lets_nothing_be_written() -> None:
    assert "File too large" in in_sandbox("""
        limit_resources(memory_bytes=2**30)
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("/tmp/phosphene-sandbox-test", "wb", buffering=0) as out:
            os.unlink("/tmp/phosphene-sandbox-test")
            out.write(b"x")
    """)


@linux_only
def test_endless_work_is_ended_by_its_processor_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from phosphene.sandbox import *\nlimit_cpu(1)\nwhile True: pass"], check=False
    )
    assert done.returncode == -signal.SIGXCPU


@linux_only
def test_close_leaves_no_process_and_answers_everyone() -> None:
    others = set(threading.enumerate())
    pool = new_pool(processes=2)
    wait([pool.decode(jpeg(), spec=SPEC) for _ in range(8)])
    children = [child.process.pid for child in pool._children]
    for child in children:
        os.kill(child, signal.SIGSTOP)
    futures = [pool.decode(jpeg(), spec=SPEC) for _ in range(8)]
    assert eventually(lambda: sum(future.running() for future in futures) == len(children))
    pool.close()
    assert all(gone(child) for child in children)
    for future in futures:
        with pytest.raises((Unavailable, CancelledError)):
            future.result(timeout=5)
    with pytest.raises(Unavailable):
        pool.decode(jpeg(), spec=SPEC)
    pool.close()
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if thread.name.startswith("phosphene-decoder")]


def test_nothing_is_started_before_there_is_work() -> None:
    with new_pool() as pool:
        assert not pool._children
        assert not multiprocessing.active_children()
        pool.decode(jpeg(), spec=SPEC).result()
        assert len(pool._children) == 1


OWNER = """
import sys, time
from phosphene.decoder_memory import SHARED_BYTES, share
from phosphene.decoding import DecoderPool
from phosphene.images import Limits
from phosphene.types import PixelSpec
pool = DecoderPool(processes=2, limits=Limits(10**8, 10**8), timeout_s=60, memory_bytes=2**31)
data = open(sys.argv[1], "rb").read()
for future in [pool.decode(data, spec=PixelSpec(size=64)) for _ in range(8)]:
    future.result()
try:
    print(*(child.process.pid for child in pool._children), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    pool.decode(data, spec=PixelSpec(size=64)).result()
    print("still decoding", flush=True)
    {ending}
"""


def owner(tmp_path: Path, ending: str) -> tuple[subprocess.Popen[str], list[int]]:
    file = tmp_path / "picture.jpg"
    file.write_bytes(jpeg())
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(ending=ending), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


@linux_only
def test_children_die_with_a_killed_owner(tmp_path: Path) -> None:
    process, children = owner(tmp_path, "pass")
    assert children
    assert not any(gone(child) for child in children)
    for child in children:
        os.kill(child, signal.SIGSTOP)  # so that it can't just read the end of its input
    process.kill()
    process.communicate()
    assert eventually(lambda: all(gone(child) for child in children))


@linux_only
@pytest.mark.parametrize("ending", ["pool.close()", "pass"])
def test_ctrl_c_reaches_the_owner_only(tmp_path: Path, ending: str) -> None:
    process, children = owner(tmp_path, ending)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert (out.strip(), err, process.returncode) == ("still decoding", "", 0)
    assert eventually(lambda: all(gone(child) for child in children))


def test_decoders_that_cannot_start_are_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phosphene.decoding._PACKAGE_PARENT", "/nonexistent")
    monkeypatch.setattr("phosphene.decoding._CHILD", "phosphene_that_is_not.there")
    with new_pool() as pool, pytest.raises(Unavailable, match="No module named"):
        pool.decode(jpeg(), spec=SPEC).result()
