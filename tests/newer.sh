#!/usr/bin/env bash
# Puts the PgBouncer and the Valkey of Debian's next release into a folder, with the libraries that they need,
# and changes nothing else: apt's own settings and lists stay as they are. Both programs are then in the folder by
# their names. Fails where that can't be done; what it says is why.
set -euo pipefail
target=$1

codename=$(. /etc/os-release && echo "${ID:-}-${VERSION_CODENAME:-}")
case $codename in
  debian-bookworm) this=bookworm next=trixie ;;
  *) echo "only Debian 12 has a next release with both" && exit 1 ;;
esac
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "there is no apt" && exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,state/lists/partial,cache/archives/partial,root}
touch "$work/state/status"

# The machine's own source of this release, for the next one.
shopt -s nullglob
for file in /etc/apt/sources.list.d/*.sources; do
  awk -v RS= -v ORS='\n\n' -v this="$this" '$0 ~ "\nSuites:[^\n]* ?" this "( |\n)"' "$file"
done | sed -E "s/^Suites:.*/Suites: $next/" >"$work/sources/newer.sources"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [ -f "$file" ] && sed -nE "s/^(deb .*) $this ( *main)/\1 $next \2/p" "$file"
done >"$work/sources/newer.list" || true
[ -s "$work/sources/newer.sources" ] || [ -s "$work/sources/newer.list" ] ||
  { echo "no source of apt is for $this" && exit 1; }

apt() {
  timeout 120 apt-get -q -y -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
    -o Dir::State="$work/state" -o Dir::State::status="$work/state/status" -o Dir::Cache="$work/cache" \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=2 "$@" \
    >"$work/log" 2>&1 || { tail -n 3 "$work/log" && exit 1; }
}
apt update
apt install --download-only --no-install-recommends pgbouncer valkey-server
for package in "$work"/cache/archives/*.deb; do
  dpkg -x "$package" "$work/root"
done

new=$work/new
mkdir -p "$new/lib"
find "$work"/root/{usr/,}lib/*-linux-gnu -maxdepth 1 -name '*.so*' -exec cp -a {} "$new/lib" \; 2>/dev/null || true
loader=$(basename "$(printf '%s\n' "$new"/lib/ld-linux*.so.* | head -n 1)")
for program in usr/sbin/pgbouncer usr/bin/valkey-server; do
  name=$(basename "$program")
  # Some names in the package are links to another program, which goes by what it is called.
  cp -L "$work/root/$program" "$new/lib/$name"
  cat >"$new/$name" <<END
#!/bin/sh
here=\$(dirname "\$0")/lib
exec "\$here/$loader" --library-path "\$here" --argv0 $name "\$here/$name" "\$@"
END
  chmod 755 "$new/$name"
  "$new/$name" --version >/dev/null || { echo "$name does not run" && exit 1; }
done
rm -rf "$target"
mkdir -p "$(dirname "$target")"
mv "$new" "$target"
