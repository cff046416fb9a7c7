"""Holds the dependencies to `deny.toml`, and to the Rust version that `Cargo.toml` promises.

Does what `cargo deny check licenses bans sources` does, which takes minutes to build.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict

CRATE = "tower-idempotency"
# The stores on sqlx need a later Rust, as the README says, and its dependencies come in several versions.
WITHOUT_SQLX = "memory,tracing,redis,conformance,zstd"


def cargo(*args):
    return subprocess.run(["cargo", *args], check=True, text=True, stdout=subprocess.PIPE).stdout


def used():
    """What a user of the crate builds, on any platform: pairs of name and version."""
    tree = cargo("tree", "--locked", "--package", CRATE, "--edges", "no-dev", "--target", "all",
                 "--no-default-features", "--features", WITHOUT_SQLX,
                 "--prefix", "none", "--no-dedupe", "--format", "{p}")
    packages = {tuple(line.split(" v", 1)) for line in tree.splitlines() if line}
    return {(name, version.split()[0]) for name, version in packages}


def is_allowed(expression, allowed):
    """Whether a licence, an SPDX expression, can be met by what is allowed."""
    words = re.findall(r"[()]|[^\s()/]+(?: WITH [^\s()]+)?|/", expression or "none")
    logic = {"AND": "and", "OR": "or", "/": "or", "(": "(", ")": ")"}
    return eval(" ".join(logic.get(word) or str(word in allowed) for word in words))


def rust(version):
    parts = [int(part) for part in (version or "0").split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


with open("deny.toml", "rb") as file:
    deny = tomllib.load(file)
packages = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--all-features"))["packages"]
failures = []

for package in packages:
    name = f"{package['name']} {package['version']}"
    if package["source"] and not is_allowed(package["license"], deny["licenses"]["allow"]):
        failures.append(f"{name} has the licence {package['license']}, which deny.toml does not allow")
    if package["source"] and not package["source"].startswith("registry+"):
        failures.append(f"{name} is from no registry")
    for dependency in package["dependencies"]:
        if not package["source"] and dependency["source"] and dependency["req"] == "*":
            failures.append(f"{name} takes any version of {dependency['name']}")
if len({package["source"] for package in packages if package["source"]}) > 1:
    failures.append("the dependencies are from more than one source")

used = used()
versions = defaultdict(set)
for name, version in used:
    versions[name].add(version)
for name, several in sorted(versions.items()):
    if len(several) > 1:
        failures.append(f"{name} is used in several versions: {', '.join(sorted(several))}")

# That the code needs no later Rust is among Clippy's lints.
used = [package for package in packages if (package["name"], package["version"]) in used]
ours = next(package for package in used if package["name"] == CRATE)
others = [package for package in used if package is not ours]
highest = max(others, key=lambda package: rust(package["rust_version"]))
if rust(highest["rust_version"]) != rust(ours["rust_version"]):
    failures.append(f"rust-version is {ours['rust_version']}, but the highest of the dependencies is "
                    f"{highest['rust_version']}, of {highest['name']} {highest['version']}")

if failures:
    sys.exit("\n".join(failures))
print(f"{len(packages)} packages, {len(used)} of them in a user's build")
