#!/usr/bin/env bash
# Builds what is committed twice, in folders of different names, and compares the programs byte by byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${1:-dist}
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
make --no-print-directory target/tools/cargo/cargo-auditable@0.7.7
for name in one another; do
  mkdir "$folder/$name"
  git archive HEAD | tar --extract --directory "$folder/$name"
  mkdir "$folder/$name/target"
  ln -s "$PWD/target/tools" "$folder/$name/target/tools"
  make --no-print-directory --directory "$folder/$name" dist PROFILE="$profile"
done
cd "$folder"
sha256sum one/target/packed/sekali another/target/packed/sekali
cmp one/target/packed/sekali another/target/packed/sekali
if grep --text --quiet --fixed-strings "$folder" one/target/packed/sekali; then
  echo "the program names the folder that it was built in" >&2
  exit 1
fi
