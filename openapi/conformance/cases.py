"""Prints how many cases a run of schemathesis made, from its report in JSON."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as report:
    print(json.load(report)["test_cases"]["generated"])
