"""Search for image files that break an image folder: a corpus by Pillow's own writers, damaged.

    .venv/bin/python tests/searches/folders.py [PLACES]

Each format that Pillow can write and read is written in several modes. Each file is damaged in
PLACES places (by default 1000 a format): cut off there, or with a byte changed, or with a stretch
of zeros or of noise. A failure is anything but an array of the right shape or one sentence that
names the file: another exception, a process that crashed, or a file that took longer than `LIMIT`
seconds.
"""

import io
import json
import multiprocessing
import random
import sys
import tempfile
import warnings
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from dsstudy.errors import InputError
from dsstudy.images.decoding import decode_image, read_image_size

LIMIT = 60
MODES = ("RGB", "L", "P", "1", "RGBA", "CMYK", "LA", "I;16")
RESULT = Path(__file__).parent / "results" / "folders.json"


def originals(name: str) -> list[bytes]:
    """Return an image in a format, in every mode that the format can hold."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    found = []
    for mode in MODES:
        stream = io.BytesIO()
        try:
            image = (
                Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
                if mode == "I;16"
                else Image.fromarray(noise).convert(mode)
            )
            image.save(stream, format=name)
            Image.open(io.BytesIO(stream.getvalue())).load()
        except Exception:  # this format has no such mode, or Pillow cannot read it back
            continue
        found.append(stream.getvalue())
    return found


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return a file's content with one damage."""
    place, length = rng.randrange(len(content)), rng.choice([1, 1, 4, 64])
    stretch = {
        "cut": b"",
        "byte": bytes([rng.randrange(256)]) + content[place + 1 :],
        "zeros": bytes(length) + content[place + length :],
        "noise": rng.randbytes(length) + content[place + length :],
    }
    return content[:place] + stretch[rng.choice(list(stretch))]


def search(name: str, places: int, counts: "multiprocessing.Queue") -> None:
    """Try one format; report what came of each file."""
    warnings.simplefilter("ignore")
    rng, files = random.Random(name), originals(name)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image.{name.lower()}"
        for _ in range(places if files else 0):
            Path(file).write_bytes(damage(rng.choice(files), rng))
            counts.put((name, outcome(file)))
    counts.put((name, None))


def outcome(file: str) -> str:
    """Return what reading a file came to; "FAILED ..." if it must not come to that."""
    try:
        read_image_size(file)
        array = decode_image(file, (32, 32))
    except InputError as error:
        return "one sentence" if file in str(error) else f"FAILED: {error}"
    except BaseException as error:
        return f"FAILED: {type(error).__name__}: {error}"
    right = array.shape == (3, 32, 32) and array.dtype == np.uint8
    return "an image" if right else f"FAILED: {array.dtype} {array.shape}"


def main() -> None:
    """Search all formats, each in a process of its own."""
    places = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    Image.init()
    found: Counter[tuple[str, str]] = Counter()
    for name in sorted(set(Image.SAVE) & set(Image.OPEN)):
        counts: multiprocessing.Queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=search, args=(name, places, counts))
        process.start()
        try:
            while (result := counts.get(timeout=LIMIT))[1] is not None:
                found[result] += 1
        except Exception:  # silent for so long
            found[name, f"FAILED: crashed or hung, exit code {process.exitcode}"] += 1
        process.kill()
        print(name, {what: n for (which, what), n in found.items() if which == name}, flush=True)
    failed = {f"{name}: {what}": n for (name, what), n in found.items() if what.startswith("FAIL")}
    record = {
        "date": date.today().isoformat(),
        "pillow": PIL.__version__,
        "tried": sum(found.values()),
        "by_format": {name: sum(n for (which, _), n in found.items() if which == name)
                      for name, _ in sorted(found)},
        "read": sum(n for (_, what), n in found.items() if what == "an image"),
        "refused": sum(n for (_, what), n in found.items() if what == "one sentence"),
        "failed": failed,
    }  # fmt: skip
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{record['tried']} tried, {sum(failed.values())} failed: {RESULT}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
