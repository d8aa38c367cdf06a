"""Every view of the pages, and the browser that they are looked at with."""

import shutil

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PAGES = {
    "home": "#/", "runs": "#/run", "run": "#/run/Train%2Fbase-1", "compare": "#/compare/Train%2Fbase-1,Train%2Fchat-2", "tokens": "#/tokens",
    "labels": "#/label", "label": "#/label/first", "corpora": "#/data", "corpus": "#/data/{shelf}", "measured": "#/evaluate",
    "answers": "#/evaluate/Evaluate%2Fbefore-4", "choices": "#/evaluate/Assess%2Fmain-6", "alignment": "#/evaluate/Alignment%2Fmain-7",
    "chat": "#/chat", "plan": "#/plan",
}  # fmt: skip
