"""Holds the Kubernetes objects in a JSON array on standard input against the API's own schemas, strictly. Says `fine`."""

import json
import sys

import kubernetes_validate

# The oldest version with native sidecars on by default, and the newest that the schemas are there for.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]

for item in json.load(sys.stdin):
    for version in VERSIONS:
        kubernetes_validate.validate(item, version, strict=True)
print("fine")
