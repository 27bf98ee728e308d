#!/usr/bin/env bash
# Builds a release of the version in pyproject.toml into dist/, and tries the wheel as its users would. `make release`
# runs it; PYTHON=python3.14 tries the wheel on another Python. It publishes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
say() { printf '\n== %s\n' "$*" >&2; }
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT

say "the changelog of $version, and the tags of its image"
changes=$(awk -v name="## [$version]" '/^## \[/ { inside = index($0, name) == 1; next } inside' CHANGELOG.md)
[ -n "$changes" ] || { echo "CHANGELOG.md has no section [$version]: rename [Unreleased]" >&2; exit 1; }
for file in deploy/kubernetes/overlays/*/kustomization.yaml; do
    grep -q "newTag: $version\$" "$file" || { echo "$file: newTag is not $version" >&2; exit 1; }
done
make .venv/dev
rm -rf dist
mkdir dist
echo "$changes" >"dist/beliefstream-$version.md"

say "wheel and sdist"
"$bin/python" -m build --outdir dist .
wheel=$(echo "$PWD"/dist/beliefstream-"$version"-*.whl)
"$bin/twine" check --strict "$wheel" "dist/beliefstream-$version.tar.gz"

say "the wheel as a tool, the command alone on the path"
export UV_TOOL_DIR=$trial/tools UV_TOOL_BIN_DIR=$trial/bin
"$bin/uv" tool install --quiet --python "${PYTHON:-$bin/python}" "$wheel"
[ "$("$UV_TOOL_BIN_DIR/beliefstream" --version)" = "beliefstream $version" ]

say "what a worker and the broker install, and the software bill of materials of that"
"$bin/uv" venv --quiet --python "${PYTHON:-$bin/python}" "$trial/environment"
"$bin/uv" pip install --quiet --python "$trial/environment/bin/python" "$wheel[worker,broker]"
"$trial/environment/bin/python" --version
"$bin/cyclonedx-py" environment --pyproject pyproject.toml --short-PURLs --output-reproducible \
    --output-file "dist/beliefstream-$version.cdx.json" "$trial/environment/bin/python"

say "broker, worker, definitions, an observation and its posterior; the first time compiles, for a minute or more"
"$bin/python" -m tests.first_posterior --environment "$trial/environment" Kafka

(cd dist && sha256sum -- *) >"$trial/sums"
mv "$trial/sums" dist/SHA256SUMS
say "beliefstream $version is in dist/"
ls dist
