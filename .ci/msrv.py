"""Checks that no dependency needs a later Rust than this crate says: reads `cargo metadata`."""

import json
import sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]


def version(package):
    parts = [int(part) for part in (package["rust_version"] or "0").split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


# What a user of the crate builds: all but the dev-dependencies.
used, todo = set(), [root]
while todo:
    node = todo.pop()
    if node not in used:
        used.add(node)
        for dep in nodes[node]["deps"]:
            if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])

ours = version(packages[root])
others = [packages[node] for node in used - {root}]
highest = max(map(version, others))
for package in others:
    if version(package) > ours:
        print(f"{package['name']} {package['version']} needs Rust {package['rust_version']}")
if highest != ours:
    said, found = (".".join(map(str, v)) for v in (ours, highest))
    sys.exit(f"rust-version is {said}, but the highest of the dependencies is {found}")
