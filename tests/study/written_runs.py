"""A study whose runs are written by hand: captions, metrics and summaries without training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from conftest import make_photo

from captioner.evaluation.scores import score
from captioner.study.plan import Run, Study
from captioner.study.results import Ranking, rank
from captioner.study.run_folder import Summary
from captioner.study.study_file import read_study

COLOURS = ("red", "green", "blue", "black")
ANIMALS = ("dog", "cat", "horse", "bird", "fish")
PLACES = ("grass", "snow", "sand")
CAPTIONS = [f"a {c} {a} runs over the {p}" for c in COLOURS for a in ANIMALS for p in PLACES]


def make_data(root: Path) -> Path:
    """Sixty validation photos, each with a caption of its own."""
    make_photo(root / "a.png", 0)
    lines = []
    for i, caption in enumerate(CAPTIONS):
        (root / f"{i}.png").symlink_to(root / "a.png")
        lines.append({"image": f"{i}.png", "captions": [caption], "split": "val"})
    lines.append({"image": "a.png", "captions": ["a dog"], "split": "train"})
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def study_of(folder: Path, data: Path, sizes: Sequence[int], seeds: Sequence[int]) -> Study:
    path = folder / "sizes.yaml"
    path.write_text(
        f"output: {folder}/sizes\nset: {{data.format: jsonl, data.root: {data}}}\n"
        f"grid: {{decoder.hidden_size: {list(sizes)}}}\nseeds: {list(seeds)}\n"
    )
    return read_study(path)


def finish(run: Run, wrong: float, seed: int = 0, *, gradients: bool = False) -> None:
    """Leave what a run leaves; a share of its captions are of other photos."""
    generator = np.random.default_rng([run.seed, seed])
    chosen = generator.permutation(len(CAPTIONS))[: round(wrong * len(CAPTIONS))]
    captions = {f"{i}.png": caption for i, caption in enumerate(CAPTIONS)}
    for i in chosen:
        captions[f"{i}.png"] = CAPTIONS[(i + 17) % len(CAPTIONS)]
    references = {f"{i}.png": [caption] for i, caption in enumerate(CAPTIONS)}
    scores = {k: float(v) for k, v in score(captions, references).corpus.items()}
    run.folder.mkdir(parents=True)
    rows = [{"image_id": image, "caption": caption} for image, caption in captions.items()]
    (run.folder / "captions.json").write_text(json.dumps(rows))
    summary = Summary("val", scores, {"split": "val"}, 1234, 1000.0 + run.seed, 2, 3)
    (run.folder / "summary.json").write_text(json.dumps(asdict(summary)))
    (run.folder / "config.yaml").write_text(yaml.safe_dump(asdict(run.config)))
    (run.folder / "trained").write_text("checkpoints/best.ckpt")
    losses = [f"{epoch},{4 - wrong - epoch},{5 - epoch}\n" for epoch in range(3)]
    (run.folder / "metrics.csv").write_text("epoch,train/loss,val/loss\n" + "".join(losses))
    if gradients:
        norms = [f"10,0,{lag},{0.5**lag}\n" for lag in range(9)]
        (run.folder / "gradients.csv").write_text("step,layer,lag,norm\n" + "".join(norms))


def ranked(folder: Path, data: Path, wrong: Sequence[Sequence[float]]) -> tuple[Study, Ranking]:
    """A study with a configuration for each row, a run for each column."""
    study = study_of(folder, data, range(1, len(wrong) + 1), range(len(wrong[0])))
    for configuration, row in zip(study.configurations, wrong, strict=True):
        for run, share in zip(configuration.runs, row, strict=True):
            finish(run, share)
    return study, rank(study)
