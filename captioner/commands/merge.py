"""`captioner merge`: join the shares of `captioner caption --share I/N` into one folder."""

from pathlib import Path

from captioner.commands.caption_run import ending
from captioner.commands.parser import Parser
from captioner.console import say
from captioner.inference.shares import merge_shares


def run(arguments: list[str]) -> int:
    """Write one manifest for all shares; return 1 if a photo has no caption, otherwise 0."""
    options = build_parser().parse_args(arguments)
    manifest = merge_shares(Path(options.folder))
    count = manifest.count or 0
    say(f"{options.folder}: {len(manifest.shards):,} files with {count:,} photos are complete")
    return ending(count, sum(shard.errors for shard in manifest.shards.values()))


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner merge",
        description="Join what `captioner caption --output FOLDER/ --share I/N` wrote: verify all "
        "files and write one manifest. A share that is missing is named.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of captions")
    return parser
