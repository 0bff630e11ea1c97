#!/bin/sh
# Builds the image and tries it the way a cluster would run it: as its own user, with a read-only root, no capability
# and no network, a volume for the data and an empty /tmp. Prints a table; the first thing that does not hold ends it.
#
#   kubeflow/check_image.sh            builds from this checkout, then checks
#   kubeflow/check_image.sh IMAGE      checks an image that is there
#
# ENGINE: podman or docker; the first that is there is taken. BUILD_FLAGS and RUN_FLAGS: more flags, between spaces.
# Exit codes: 0 all held; 1 something did not; 3 there is no engine.
set -eu

cd "$(dirname "$0")/.."
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
if [ -z "$engine" ] || ! "$engine" info >/dev/null 2>&1; then
    echo "there is no container engine that answers; next: install podman or docker, or set ENGINE" >&2
    exit 3
fi

work=$(mktemp -d)
trap clean EXIT
mkdir "$work/data"
chmod 777 "$work/data" # the image's user writes there, whoever runs this

clean() {
    # files of the image's user, which whoever runs this may not be allowed to remove
    [ -z "${image:-}" ] || inside --entrypoint sh "$image" -c 'rm -rf data/*' || true
    rm -rf "$work"
}
say() { printf '| %s | %s |\n' "$1" "$2"; }
fail() {
    say "$1" "**does not hold**: $2"
    sed 's/^/    /' "$work/log" >&2 2>/dev/null || true
    exit 1
}

# One container as a pod would have it: inside MORE_FLAGS -- ARGUMENTS…
inside() {
    # shellcheck disable=SC2086 # flags are words
    "$engine" run --rm --read-only --tmpfs /tmp:rw,size=2g --cap-drop ALL --security-opt no-new-privileges \
        --network none --volume "$work/data:/home/imprint/project/data" ${RUN_FLAGS:-} "$@" >"$work/log" 2>&1
}

# A step by the image's entry point, and the exit code it must end with.
step() {
    what=$1 wanted=$2
    shift 2
    found=0
    inside "$image" "$@" || found=$?
    [ "$found" = "$wanted" ] || fail "$what" "exit code $found, and $wanted was expected"
    say "$what" "exit code $found: $(tail -n 1 "$work/log" | cut -c 1-140)"
}

# Python inside that must end well; what it prints is the finding.
python() {
    inside --entrypoint python3 "$image" -c "$2" || fail "$1" "$(tail -n 1 "$work/log")"
    say "$1" "$(tail -n 1 "$work/log")"
}

if [ $# -gt 0 ]; then
    image=$1
else
    image=imprint-check:latest
    # shellcheck disable=SC2086
    "$engine" build --file kubeflow/Dockerfile --tag "$image" \
        --build-arg "COMMIT=$(git rev-parse HEAD 2>/dev/null || true)" ${BUILD_FLAGS:-} . >&2
fi

echo '| check | found |'
echo '|---|---|'
user=$("$engine" image inspect --format '{{.Config.User}}' "$image")
echo "$user" | grep -Eq '^[1-9][0-9]*:[1-9][0-9]*$' || fail "user" "$user is no pair of numbers other than 0"
say "user" "$user"
size=$("$engine" image inspect --format '{{.Size}}' "$image")
say "size" "$((size / 1000000)) MB"

python "who a step is" 'import os; assert os.getuid() and os.getgid(); print(os.getuid(), os.getgid())'
python "the root is read-only, HOME is not" 'import errno, pathlib
pathlib.Path.home().joinpath("probe").write_text("x")
for place in ("/", "/home/imprint/project", "/opt/imprint"):
    try:
        pathlib.Path(place, "probe").write_text("x")
    except OSError as error:
        assert error.errno in (errno.EROFS, errno.EACCES), error
    else:
        raise SystemExit(f"{place} can be written")
print("HOME is", pathlib.Path.home())'
python "no kfp, no pip, no test" 'import importlib.util as u
there = [name for name in ("kfp", "kfp_server_api", "kubernetes", "pip", "pytest", "hatchling") if u.find_spec(name)]
print(f"{there} can be imported" if there else "none of them")
raise SystemExit(bool(there))'
python "no credential, no history, no data" 'import pathlib
project = pathlib.Path("/home/imprint/project")
found = [str(p) for p in project.rglob("*") if ".git" in p.parts or p.suffix in (".key", ".env") or "local" in p.parts]
assert set(found) <= {str(project / "conf/local"), str(project / "conf/local/README.md")}, found
print("conf/local holds its README alone")'
python "torch" 'import torch; print(torch.__version__, "CUDA" if torch.version.cuda else "CPU")'
python "what it was built from" 'from imprint.provenance import code_version, versions
print("commit", code_version()["commit"], "imprint", versions()["imprint"])'

# The fabricated corpus and the sizes of conf/test: a minute. One step a container, in the order of the pipeline: the image
# lacks parts of installed packages, and only a step that runs shows what it needs of them.
common="--pipeline __default__ --env test"
# shellcheck disable=SC2086
{
    step "a step that reads, validates and cuts" 0 --step prepare $common \
        --nodes ingest_corpus,validate_interactions,render_validation_page,partition_users
    step "a step that trains" 0 --step base $common --nodes prepare_base_model,pool_users
    step "a search of the population" 0 --step search $common --nodes group_users,search_population
    step "searches of users' own" 0 --step search-own $common --nodes search_own_configs
    step "memories" 0 --step inject $common --nodes train_memories,train_baseline_memories
    step "whose memory is best for whom" 0 --step specificity $common --nodes measure_specificity
    step "answers and scores" 0 --step evaluate $common --nodes answer_queries,score_methods
    step "metrics and report" 0 --step report $common \
        --nodes plot_search,plot_gains,plot_specificity,summarise_metrics,write_report
    step "a node that fails" 1 --step prepare $common --nodes ingest_corpus \
        --params '{"corpus": {"format": "jsonl", "path": "data/nowhere.jsonl"}}'
    step "an environment that is not there" 2 --step prepare --pipeline __default__ --env nowhere --nodes ingest_corpus
    step "a node that is not there" 2 --step prepare $common --nodes nobody
    step "parameters that are no JSON" 2 --step prepare $common --nodes ingest_corpus --params '{'
}
for made in 05_model_input/pooled_model.json 08_reporting/metrics.json 08_reporting/report.html; do
    [ -s "$work/data/$made" ] || fail "outputs on the volume" "there is no $made"
done
say "outputs on the volume" "$(find "$work/data" -type f | wc -l) files"
