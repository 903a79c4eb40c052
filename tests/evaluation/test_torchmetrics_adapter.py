import json
import subprocess
import sys

import pytest

from captioner.errors import CaptionerError
from captioner.evaluation.scores import score
from captioner.evaluation.torchmetrics_adapter import CaptionScores

CAPTIONS = {n: f"a dog number {n} runs on grass" for n in range(7)}
REFERENCES = {n: [f"the dog number {n} runs", f"dog {n} on the grass"] for n in range(7)}


def add(metric, images):
    metric.update(images, [CAPTIONS[n] for n in images], [REFERENCES[n] for n in images])


def test_batches_give_the_scores_of_the_whole():
    metric = CaptionScores()
    for images in ([0, 1, 2], [3, 4], [5, 6, 0]):
        add(metric, images)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == score(CAPTIONS, REFERENCES).corpus
    metric.reset()
    add(metric, [1, 2])
    assert metric.compute()["BLEU-1"].item() != found["BLEU-1"]


def test_one_image_with_two_captions_is_refused():
    metric = CaptionScores(metrics=["BLEU"])
    add(metric, [0])
    metric.update([0], ["another"], [REFERENCES[0]])
    with pytest.raises(CaptionerError, match="image 0: two different captions"):
        metric.compute()


# Three processes: images of two lengths, the first one in two of them, and none in the last.
PROCESSES = """
import json, sys
import torch.distributed as dist
import torch.multiprocessing as mp

CAPTIONS = {n: f"a dog number {n} runs on grass" for n in range(7)}
REFERENCES = {n: [f"the dog number {n} runs", f"dog {n} on the grass"] for n in range(7)}

def work(rank, file):
    from captioner.evaluation.torchmetrics_adapter import CaptionScores
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=3)
    metric = CaptionScores()
    images = [[0, 1, 2, 3, 4], [5, 6, 0], []][rank]
    metric.update(images, [CAPTIONS[n] for n in images], [REFERENCES[n] for n in images])
    found = {name: value.item() for name, value in metric.compute().items()}
    if rank == 2:
        print(json.dumps(found))
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), nprocs=3)
"""


@pytest.mark.slow
def test_processes_share_their_captions(tmp_path):
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "meeting")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == score(CAPTIONS, REFERENCES).corpus
