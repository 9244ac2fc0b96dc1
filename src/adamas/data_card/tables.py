"""The data card as Markdown."""

from __future__ import annotations

from typing import Any

from adamas.data_card.quality import MEANING
from adamas.utils.markdown import markdown_table


def markdown(card: dict[str, Any]) -> str:
    """All figures of `Card.plain()`, with headings."""
    parts = [_findings(card), _coverage(card), _actions(card), _quality(card), _diversity(card), _alignment(card)]
    if "dreams" in card:
        parts.append(_dreams(card))
    return "\n\n".join(parts)


def _findings(card: dict[str, Any]) -> str:
    lines = card["findings"] or ["none"]
    return "\n".join([f"**Findings** ({len(card['findings'])})", "", *(f"- {line}" for line in lines)])


def _coverage(card: dict[str, Any]) -> str:
    c, rows = card["coverage"], card["rows"]
    table = [
        ("rows", f"{rows:,}"),
        ("steps, episodes", f"{card['steps']:,}, {card['episodes']:,}"),
        ("distinct frames", f"{c['distinct_frames']:,} ({c['distinct_frames'] / rows:.1%})"),
        ("distinct states", f"{c['distinct_states']:,} ({c['distinct_states'] / rows:.1%})"),
        ("of the last tenth of the rows, new states", f"{c['new_in_last_tenth']:.1%}"),
        ("clusters", len(c["clusters"])),
        (
            "share of the largest, smallest cluster",
            f"{c['clusters'][0]['share']:.1%}, {c['clusters'][-1]['share']:.2%}",
        ),
    ]
    return "**Coverage**\n\n" + markdown_table(("", ""), table, "lr")


def _actions(card: dict[str, Any]) -> str:
    names = ("steps", "positive", "negative", "reward", "terminated", "truncated")
    steps = max(card["steps"], 1)
    body = [
        (a["name"], f"{a['steps']:,}", f"{a['steps'] / steps:.1%}", *(f"{a[name]:,}" for name in names[1:]))
        for a in card["coverage"]["actions"]
    ]
    head = ("action", "steps", "share", "rewards > 0", "rewards < 0", "sum of rewards", "terminated", "truncated")
    return "**Actions**\n\n" + markdown_table(head, body, "lrrrrrrr")


def _quality(card: dict[str, Any]) -> str:
    q = card["quality"]
    table = [
        ("broken files, left out", len(card["broken_files"])),
        ("grey levels", "{}..{}".format(*q["grey_levels"])),
        ("frames equal to the one before", f"{q['same_frame_as_before']:.1%}"),
        ("changing pixels that change back at once (flicker)", f"{q['flicker']:.1%}"),
        ("episodes of one step", f"{q['one_step_episodes']:,}"),
    ]
    drops = [(name, f"{count:,}", MEANING[name]) for name, count in q["dropped"].items()]
    left = card["rows"] - sum(q["dropped"].values())
    return "\n\n".join(
        [
            "**Quality**",
            markdown_table(("", ""), table, "lr"),
            "What `adamas data filter` drops, stage by stage:",
            markdown_table(("stage", "rows", "what"), [*drops, ("left", f"{left:,}", "")], "lrl"),
        ]
    )


def _diversity(card: dict[str, Any]) -> str:
    d = card["diversity"]
    table = [
        ("entropy over the clusters", f"{d['entropy']:.2f} of {d['most_entropy']:.2f} bits"),
        ("as many as equal clusters", f"{d['effective_clusters']:.1f}"),
    ]
    if d["nearest_neighbour"]:
        spread = " / ".join(f"{x:.3f}" for x in d["nearest_neighbour"])
        table.append(("nearest other frame, 10% / 50% / 90%, in usual distances", spread))
    if r := d.get("random_against_later"):
        table += [
            ("first steps, of the untrained policy", f"{r['random_steps']:,}"),
            ("entropy of these, of later ones", f"{r['entropy_random']:.2f}, {r['entropy_later']:.2f} bits"),
            ("Jensen-Shannon divergence of the two", f"{r['divergence']:.3f} bits"),
            ("later rows in states that these never saw", f"{r['new_later']:.1%}"),
        ]
    return "**Diversity**\n\n" + markdown_table(("", ""), table, "lr")


def _alignment(card: dict[str, Any]) -> str:
    a = card["alignment"]
    text = f"**Alignment of action and frame**: {a['verdict']}, {a['steps']:,} steps: {a['reason']}."
    if not a["scores"]:
        return text
    body = [(lag, f"{score:.4f}", f"{a['z'][lag]:.1f}") for lag, score in a["scores"].items()]
    head = ("action at t +", "R² of the change t -> t+1", "standard errors above 0")
    return text + "\n\n" + markdown_table(head, body, "rrr")


def _dreams(card: dict[str, Any]) -> str:
    d = card["dreams"]
    body = [
        (i + 1, f"{cluster['share']:.1%}", f"{count:,}", "-" if lost is None else f"{lost:.1%}")
        for i, (cluster, count, lost) in enumerate(
            zip(card["coverage"]["clusters"], d["steps"], d["lost"], strict=True)
        )
    ]
    head = ("cluster", "share of the data", "dreamed steps with small movers", "of these diverged")
    return "\n\n".join(
        [
            f"**What it means for training**: {d['dreams']} dreams of {d['length']} steps by {d['run']}. {d['text']}",
            markdown_table(head, body, "rrrr"),
        ]
    )
