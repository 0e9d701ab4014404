#!/usr/bin/python3
"""Draws what `minicpmv bench serve --json=F.json` measured, over time.

    tools/plot_bench.py F.json                    # F.png beside it
    tools/plot_bench.py F.json --out=picture.svg  # the ending tells the format

Three pictures above each other: requests and tokens of each second, the time to the first token, and the gaps between
tokens. Needs matplotlib (Debian: python3-matplotlib), which nothing else here does.
"""
import argparse
import json
import pathlib
import sys

COUNTS = ("due", "completed", "refused", "failed", "open", "waiting")
PERCENTILES = ("p50", "p90", "p99", "max")


def read(path):
    figures = json.loads(path.read_bytes())
    if not isinstance(figures, dict) or not figures.get("series"):
        sys.exit(f"plot_bench: {path} has no series of a bench serve")
    return figures


def percentiles(series, name, which):
    """By second; a gap where nothing was measured."""
    return [second[name][which] if second[name] else float("nan") for second in series]


def draw(figures, out):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    series = figures["series"]
    seconds = [second["second"] for second in series]
    picture, (counts, ttft, itl) = pyplot.subplots(3, sharex=True, figsize=(10, 11))
    for name in COUNTS:
        counts.plot(seconds, [second[name] for second in series], label=name)
    counts.set_ylabel("requests")
    counts.legend(loc="upper left")
    tokens = counts.twinx()
    tokens.fill_between(seconds, [second["output_tokens"] for second in series], step="mid", alpha=.15, color="grey")
    tokens.set_ylabel("tokens/s (grey)")
    for axes, name, words in ((ttft, "ttft_ms", "first token, ms"), (itl, "itl_ms", "between tokens, ms")):
        for which in PERCENTILES:
            axes.plot(seconds, percentiles(series, name, which), marker=".", label=which)
        axes.set_ylabel(words)
        axes.set_yscale("log")
        axes.legend(loc="upper left")
    itl.set_xlabel("seconds")
    counts.set_title(f"{figures['offered_rate']:g} conversations/s offered: {figures['completed']} of "
                     f"{figures['requests']} requests completed, {figures['output_tokens_per_second']:.1f} tokens/s, "
                     f"goodput {figures['goodput']:.2f}/s")
    picture.tight_layout()
    picture.savefig(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=pathlib.Path, metavar="F.json")
    parser.add_argument("--out", type=pathlib.Path, help="the picture; F.png unless told")
    arguments = parser.parse_args()
    out = arguments.out or arguments.figures.with_suffix(".png")
    draw(read(arguments.figures), out)
    print(out)


if __name__ == "__main__":
    main()
