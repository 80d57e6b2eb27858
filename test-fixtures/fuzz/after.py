"""What has to hold of a gateway before and after it was tried out.

    after.py URL ready      it takes operations
    after.py URL tidy       it does still, and all that was made can be removed
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def call(method, url):
    """Status and JSON of an answer."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if body else None
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def tidy(url):
    """Removes all volumes and snapshots; the texts of what could not be."""
    api = f"{url}/v1beta/t/block"
    problems = []
    # Work behind an answer may have to end first.
    for attempt in range(30):
        problems = []
        for kind in ("snapshots", "volumes"):
            status, listed = call("GET", f"{api}/{kind}")
            if status != 200:
                problems.append(f"{kind}: {status} {listed}")
                continue
            for item in listed:
                path = f"{api}/{kind}/{urllib.parse.quote(item['id'], safe='')}"
                status, text = call("DELETE", path)
                if status not in (202, 404):
                    problems.append(f"{item['id']}: {status} {text}")
        if not problems and not call("GET", f"{api}/volumes")[1]:
            return []
        time.sleep(1)
    return problems or ["volumes are still there"]


def main():
    url, what = sys.argv[1:]
    status, health = call("GET", f"{url}/healthz")
    if status != 200:
        sys.exit(f"the gateway is not well: {status} {health}")
    if what == "tidy":
        problems = tidy(url)
        if problems:
            sys.exit("\n".join(problems))
        print("the gateway answers, and all that was made was removed")


main()
