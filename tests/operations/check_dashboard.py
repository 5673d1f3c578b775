#!/usr/bin/env python3
"""Runs the query of every panel of the Grafana dashboard against a Prometheus, and fails where one gives no data.

    check_dashboard.py http://127.0.0.1:9090              all panels, over the last five minutes
    check_dashboard.py http://127.0.0.1:9090 --minutes 2 --rate-interval 10s --job 'lakelens.*'
    check_dashboard.py --as-rules >queries.yml            the queries as recording rules, which promtool can parse without a server

Data is at least one sample that is a number: a quotient of nothing by nothing (NaN) is none. Variables stand for what Grafana would put there with "All".
Ends with 0 if every query gave data, 1 if one did not or failed, 2 if the server or the file could not be read. Python's standard library alone.
"""

import argparse
import json
import math
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = pathlib.Path(__file__).resolve().parents[2] / "deploy/grafana/lakelens.json"


def queries(dashboard):
    """Every (panel's title, query) of a dashboard, in the order in which they are seen; annotations are no panels, as they are empty in good times."""
    panels = list(dashboard["panels"])
    for panel in panels:
        panels.extend(panel.get("panels", []))
    found = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]
    if not found:
        raise ValueError("there is no query in it")
    return found


def fill_in(query, options):
    """The query with its variables replaced."""
    variables = {"$__rate_interval": options.rate_interval, "$__range": f"{options.minutes}m", "$job": options.job, "$instance": ".*"}
    for name, value in variables.items():
        query = query.replace(name, value)
    if "$" in query:
        raise ValueError(f"a variable that this program does not know is in the query: {query}")
    return query


def ask(server, query, minutes):
    """How many series have a number within the last minutes."""
    now = time.time()
    form = {"query": query, "start": now - 60 * minutes, "end": now, "step": max(1, minutes * 60 // 120)}
    request = urllib.request.Request(f"{server.rstrip('/')}/api/v1/query_range", data=urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get("error", error.reason)) from error
    return sum(any(math.isfinite(float(value)) for _, value in series["values"]) for series in body["data"]["result"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", help="URL of the Prometheus")
    parser.add_argument("--dashboard", type=pathlib.Path, default=DASHBOARD)
    parser.add_argument("--minutes", type=int, default=5, help="how far to look back (5)")
    parser.add_argument("--rate-interval", default="1m", help="what $__rate_interval stands for: four scrapes at least (1m)")
    parser.add_argument("--job", default="lakelens.*", help="regular expression of the jobs (lakelens.*)")
    parser.add_argument("--as-rules", action="store_true", help="print the queries for promtool, and ask nobody")
    options = parser.parse_args()
    if not options.server and not options.as_rules:
        parser.error("which Prometheus? Its URL is missing")
    try:
        asked = [(title, fill_in(query, options)) for title, query in queries(json.loads(options.dashboard.read_text()))]
    except (OSError, KeyError, ValueError) as error:
        print(f"{options.dashboard}: {error}", file=sys.stderr)
        return 2

    if options.as_rules:
        rules = [{"record": f"panel:query:number{n}", "expr": query} for n, (_, query) in enumerate(asked)]
        print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}, indent=1))
        return 0

    empty = 0
    for title, query in asked:
        try:
            series = ask(options.server, query, options.minutes)
            verdict = f"{series} series" if series else "NO DATA"
        except ValueError as error:
            series, verdict = 0, f"REFUSED: {error}"
        except OSError as error:
            print(f"{options.server}: {error}", file=sys.stderr)
            return 2
        empty += not series
        print(f"{verdict:>10}  {title}" + ("" if series else f"\n            {query}"))
    print(f"{len(asked) - empty} of {len(asked)} queries give data")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
