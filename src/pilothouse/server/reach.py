"""How far a move has got, in a sentence for people."""

from typing import Any


def reach(moved: dict[str, Any]) -> str:
    """`moved` is what a settled move says: workers, hosts, time, who is late and who is cut off."""
    if not moved["of"]:
        return "no worker is running: they take it when they start"
    where = _where(moved["hosts"], moved["of_hosts"])
    text = f"on {moved['workers']} of {moved['of']} workers{where} in {moved['propagated_ms'] / 1000:.2f} s"
    away = tuple(moved["away"])
    late = [name for name in moved["late"] if not name.startswith(tuple(f"{host}/" for host in away))]
    text += f"; late: {', '.join(late)}" if late else ""
    if away:
        verb = "is" if len(away) == 1 else "are"
        text += f"; {', '.join(away)} {verb} cut off: what it holds stays until it is back, and then it follows"
    return text


def _where(hosts: int, of_hosts: int) -> str:
    if of_hosts <= 1:
        return ""
    return f" on {of_hosts} hosts" if hosts == of_hosts else f" on {hosts} of {of_hosts} hosts"
