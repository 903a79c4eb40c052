"""Plot the gradient through time of several runs.

    python scripts/plot_gradients.py Elman=runs/elman LSTM=runs/lstm --output gradients.png

Each run must have been trained with `--watch.gradient_every`.
"""

import argparse
import sys
from pathlib import Path

from captioner.analysis.gradient_plot import plot_gradients
from captioner.errors import CaptionerError


def main() -> int:
    """Draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--output", type=Path, default=Path("gradients.png"))
    options = parser.parse_args()
    runs = {}
    for run in options.runs:
        name, equals, folder = run.partition("=")
        if not equals or "/" in name:  # folders of a study contain "=" in their names
            name, folder = Path(run).name, run
        runs[name] = Path(folder) / "gradients.csv"
    try:
        plot_gradients(runs, options.output)
    except CaptionerError as error:
        print(f"plot_gradients: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
