"""Trims the manifest of an unpacked package, named by its folder, to the library and its unit tests."""

import pathlib
import re
import sys

package = pathlib.Path(sys.argv[1])
code = "\n".join(path.read_text() for path in sorted(package.glob("src/**/*.rs")))
code = re.sub(r"^\s*//.*$", "", code, flags=re.MULTILINE)


def is_needed(section):
    header = section.split("]", 1)[0]
    if header.startswith(("[[example", "[[bench", "[[test")):
        return False
    name = re.match(r'\[dev-dependencies\."?([\w-]+)', header)
    return not name or re.search(rf"\b{name[1].replace('-', '_')}::", code)


manifest = package / "Cargo.toml"
sections = re.split(r"^(?=\[)", manifest.read_text(), flags=re.MULTILINE)
manifest.write_text("".join(filter(is_needed, sections)))
