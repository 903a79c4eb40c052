"""Demonstrate captioning at scale: caption photos in tar shards, with one kill and one resume.

    python scripts/caption_scale.py --photos 100000 --work runs/scale

The script draws JPEGs of 256 x 192 pixels into tars of 1,000 and captions them with
`captioner caption` into a folder of files. It kills the run when a third of the files exist, reruns
the same command, and checks that every photo is captioned once and in order. It prints the resident
memory in MiB at each file and the encoder's share of the time. Without `--checkpoint`, the network
is an untrained MobileNetV2 with an LSTM, which is as slow as a trained one.
"""

import argparse
import io
import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.files.atomic import whole_file

PER_TAR = 1000


def main() -> int:
    """Draw, caption, kill, resume and check."""
    parser = argparse.ArgumentParser(description="Caption many photos, with one kill.")
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=Path("runs/scale"), help="working folder")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--shard-size", type=int, default=2000)
    parser.add_argument(
        "--flags", default="--batch-size 32 --beam-size 3 --min-length 9", help="for `caption`"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = options.checkpoint or untrained(options.work / "mobilenet_v2.ckpt")
    tars = [draw(options.work, i, options.photos) for i in range(-(-options.photos // PER_TAR))]
    output = options.work / "captions"
    command = [sys.executable, "-m", "captioner", "caption", *map(str, tars), "--checkpoint"]
    command += [str(checkpoint), "--output", f"{output}/", "--shard-size", str(options.shard_size)]
    command += options.flags.split()
    files = -(-options.photos // options.shard_size)
    print(f"{options.photos:,} photos in {len(tars)} tars, {files} files of captions")
    follow(command, output, kill_at=max(1, files // 3))
    follow(command, output, kill_at=None)
    return count(output, tars)


def untrained(path: Path) -> Path:
    """Write a checkpoint of an untrained MobileNetV2 and LSTM of 512."""
    import torch

    from captioner import checkpoint
    from captioner.build import build_captioner, build_encoder
    from captioner.config.schema import Config, DecoderConfig, EncoderConfig
    from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

    torch.manual_seed(0)
    decoder = DecoderConfig(cell="lstm", embedding_size=512, hidden_size=512)
    config = Config(encoder=EncoderConfig(name="mobilenet_v2", weights="none"), decoder=decoder)
    encoder, transform = build_encoder(config.encoder)
    vocabulary = Vocabulary([*SPECIAL_WORDS, *(f"word{i}" for i in range(2500))])
    captioner = build_captioner(config, encoder, vocab_size=len(vocabulary))
    with torch.no_grad():
        captioner.decoder.projection.bias[2] = 9.0  # captions end as soon as --min-length allows
    state = {f"captioner.{name}": tensor for name, tensor in captioner.state_dict().items()}
    contents = checkpoint.contents(captioner, vocabulary, transform, config)
    torch.save({"state_dict": state, "captioner": contents}, path)
    return path


def draw(folder: Path, number: int, photos: int) -> Path:
    """Write a tar of smooth random pictures, each with its own number."""
    path = folder / f"photos-{number:05d}.tar"
    if path.exists():
        return path
    generator = np.random.default_rng(number)
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for i in range(number * PER_TAR, min((number + 1) * PER_TAR, photos)):
            colours = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(colours).resize((256, 192)).save(buffer, "JPEG")
            info = tarfile.TarInfo(f"{i:09d}.jpg")
            info.size = buffer.tell()
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    return path


def follow(command: list[str], output: Path, kill_at: int | None) -> None:
    """Run the command, print its memory at each file, and kill it after `kill_at` files."""
    process = subprocess.Popen(command)
    seen = -1
    while process.poll() is None:
        there = len(list(output.glob("captions-*.jsonl")))
        if there != seen:
            print(f"  {there:5} files, {resident(process.pid):7.0f} MiB", flush=True)
            seen = there
        if kill_at is not None and there >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
            print("  killed")
            return
        time.sleep(0.05)
    print(f"  ended with exit code {process.returncode}")


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    try:
        found = re.search(r"VmRSS:\s+([0-9]+)", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def count(output: Path, tars: list[Path]) -> int:
    """Compare the records with the photos, one by one and in order."""
    wanted = (f"{path}/{name}" for path in tars for name in names(path))
    written = 0
    for file in sorted(output.glob("captions-*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["image"] != next(wanted, None) or "caption" not in record:
                    print(f"wrong record in {file}: {line.strip()}")
                    return 1
                written += 1
    missing = sum(1 for _ in wanted)
    print(f"{written:,} photos captioned once each and in order, {missing:,} missing")
    return 1 if missing else 0


def names(path: Path) -> list[str]:
    """Return the member names of a tar."""
    with tarfile.open(path) as tar:
        return tar.getnames()


if __name__ == "__main__":
    sys.exit(main())
