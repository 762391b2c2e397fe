"""The pages of the fake providers that a person sees: what to pay, what became of it, and what is in the sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

BUTTONS = {"paid": "Pay", "partial": "Pay half", "failed": "Let it fail", "expired": "Let it expire"}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --faint: #66707f; --paper: #fff; --ground: #eef1f6;
  --line: #dde2ea; --accent: #2f5bea; --on-accent: #fff }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8ecf3; --faint: #98a3b5; --paper: #1a202b; --ground: #10141b;
  --line: #2d3645; --accent: #86a5ff; --on-accent: #10141b }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem 1rem;
  background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }}
main {{ width: 100%; max-width: {width}; padding: clamp(1.25rem, 5vw, 2.25rem); background: var(--paper);
  border: 1px solid var(--line); border-radius: 16px; box-shadow: 0 12px 40px #0002 }}
h1 {{ margin: 0 0 .25rem; font-size: 1.05rem; font-weight: 600; color: var(--faint) }}
h2 {{ margin: 1.75rem 0 .25rem; font-size: 1.05rem }}
p {{ margin: .5rem 0; overflow-wrap: anywhere }}
.amount {{ margin: 0 0 1rem; font-size: clamp(2rem, 9vw, 2.75rem); font-weight: 700; letter-spacing: -.02em }}
.note {{ color: var(--faint); font-size: .9rem }}
dl {{ margin: 1rem 0 1.5rem; border-top: 1px solid var(--line) }}
dl div {{ display: flex; gap: 1rem; justify-content: space-between; padding: .6rem 0;
  border-bottom: 1px solid var(--line) }}
dt {{ color: var(--faint); flex: none }}
dd {{ margin: 0; text-align: right; overflow-wrap: anywhere; min-width: 0 }}
form {{ display: grid; gap: .6rem }}
button, a.button {{ display: block; width: 100%; padding: .8rem 1rem; border-radius: 10px; text-align: center;
  border: 1px solid var(--line); background: transparent; color: var(--ink); font: inherit; text-decoration: none;
  cursor: pointer }}
button[value=paid], a.button {{ background: var(--accent); border-color: var(--accent); color: var(--on-accent);
  font-weight: 600 }}
button:focus-visible, a:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px }}
a {{ color: var(--accent) }}
code, pre {{ font: .85em/1.5 ui-monospace, monospace; overflow-wrap: anywhere }}
pre {{ margin: .5rem 0; padding: .9rem; border-radius: 10px; background: var(--ground); overflow-x: auto }}
</style>
</head>
<body><main>{body}</main></body>
</html>
"""

CONTROL = """<h2>Control</h2>
<p class="note">For tests and for people; <code>{{provider}}</code> is one of the names above.</p>
<pre>curl {url}/_control/{{provider}}/settle -d '{{"reference": "…", "outcome": "paid", "notify": "once"}}'
curl {url}/_control/{{provider}}/faults -d '{{"operation": "create", "fault": "timeout_after_accept", "times": 1}}'
curl {url}/_control/{{provider}}/switches -X PUT -d '{{…}}'
curl {url}/_control/{{provider}}/requests
curl {url}/_control/{{provider}}/state -X DELETE</pre>
<p class="note">Outcomes: paid, partial, failed, expired, canceled, refunded (as far as the provider has them), or any
<code>word</code> of its own. Notify: once, twice, reordered, forged, none. <code>GET</code> shows and
<code>DELETE</code> clears faults and requests. Faults: {faults}.</p>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a pay page shows; `outcomes` are the buttons, none when there is nothing left to pay."""

    provider: str
    amount: str
    facts: Mapping[str, str | None]
    status: str
    outcomes: Sequence[str] = ()
    back_url: str | None = None
    back_title: str | None = None


def pay_page(bill: Bill) -> str:
    settled = "" if bill.outcomes else f"<p>Nothing is left to pay here: this invoice is {escape(bill.status)}.</p>"
    buttons = "".join(f'<button name="outcome" value="{name}">{BUTTONS[name]}</button>' for name in bill.outcomes)
    facts = {**bill.facts, "Status": bill.status}
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>" for name, fact in facts.items() if fact)
    return _page(
        f"{bill.provider}: {bill.amount}",
        f'<h1>{escape(bill.provider)} (sandbox)</h1><p class="amount">{escape(bill.amount)}</p>{settled}<dl>{rows}</dl>'
        + (f'<form method="post">{buttons}</form>' if buttons else _way_back(bill))
        + '<p class="note">Play money: no real payment is made on this page.</p>',
    )


def _way_back(bill: Bill) -> str:
    url = bill.back_url or ""
    if not url.startswith(("http://", "https://")):
        return ""
    return f'<a class="button" href="{escape(url)}">{escape(bill.back_title or "Back to the shop")}</a>'


def missing_page(provider: str) -> str:
    return _page("Not found", f"<h1>{escape(provider)} (sandbox)</h1><p>There is no such invoice here.</p>")


def index_page(url: str, credentials: Mapping[str, Mapping[str, str]], faults: Sequence[str]) -> str:
    sections = "".join(_section(kind, settings) for kind, settings in credentials.items())
    control = CONTROL.format(url=escape(url), faults=escape(", ".join(faults)))
    return _page(
        "Sandbox",
        '<h1>Sandbox</h1><p class="amount">Fake providers</p>'
        "<p>Each speaks its provider's wire, from the provider's documentation alone. Everything is in memory.</p>"
        f"{sections}{control}",
        width="52rem",
    )


def _section(kind: str, settings: Mapping[str, str]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd></div>" for name, value in settings.items()
    )
    return f"<h2>{escape(kind)}</h2><dl>{rows}</dl>"


def _page(title: str, body: str, width: str = "27rem") -> str:
    return PAGE.format(title=escape(title), body=body, width=width)
