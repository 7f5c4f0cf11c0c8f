#!/bin/bash
# run.sh VERSION... : make tests/fixtures/crds/<minor> from the Velero module of each version (default: the four that are tested)
set -e; here=$(dirname "$(readlink -f "$0")"); fixtures=$here/../../fixtures/crds
for version in ${*:-v1.15.2 v1.16.2 v1.17.2 v1.18.3}; do
  work=$(mktemp -d); cp "$here/main.go" "$work/"; target=$fixtures/$(cut -d. -f1,2 <<<"${version#v}"); mkdir -p "$target"
  (cd "$work"; export GOTOOLCHAIN=local GOFLAGS=-mod=mod; go mod init velerocrds; go get "github.com/vmware-tanzu/velero@$version"; go mod tidy; nice go run . "$target") >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  rm -rf "$work"
done
