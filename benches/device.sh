#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can tell, on one that has neither Rust nor the CUDA
# toolkit. Takes the folder that benches/pack.sh made; changes no setting of the card.
#
#   benches/device.sh FOLDER OUT [STEP..]
#
# OUT receives at most eight files: log.txt (what every step printed), summary.txt (the table that is
# printed last: a line a step, then a line for each operation that was timed), devices.json, probe.json,
# bench.json (a document for each operation and backend), peers.json. Without STEPs all run, in this order:
#
#   machine      nvidia-smi, read only; the CPU
#   devices      the backends that the binary finds
#   doctor       operations and a model on CUDA and on wgpu against the CPU, as a user checks a device
#   tests-cuda   the tests of the real driver, which may not be skipped: every operation, and every command whole
#                against the CPU's
#   tests-unit   the unit tests
#   probe        rounding of the tensor cores, newest PTX, compile times
#   bench-cuda   every operation in f32 and f64: rates against measured ceilings
#   lib          whole runs on the CPU, CUDA and wgpu, their Lambda compared; the published model in f64
#   n2g          tries and scores of 384 neurons of demo:lm on the CPU, CUDA and wgpu, compared
#   tests-wgpu   the tests of wgpu on the GPU's Vulkan adapter
#   bench-wgpu   rates through Vulkan, of the operations that have kernels there; of linear maps on cooperative matrices too
#   sanitizer    memcheck, racecheck, synccheck and initcheck on small shapes
#   peers        PyTorch: ceilings, the same operations, the same LIB run
#
# A step that fails does not stop the others; the exit status is 1 if any failed, also for want of a
# driver or a tool. MECHGRAPH_ADAPTER names the wgpu adapter (default NVIDIA): with llvmpipe the wgpu
# steps can be rehearsed without a GPU. Vulkan loaders in FOLDER/gl/*.deb or .gl/*.deb are unpacked first.
set -uo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
repo=$(cd "$(dirname "$0")/.." && pwd)
folder=$(cd "$1" && pwd) || exit 2
mkdir -p "$2" && out=$(cd "$2" && pwd) || exit 2
shift 2
all=(machine devices doctor tests-cuda tests-unit probe bench-cuda lib n2g tests-wgpu bench-wgpu sanitizer peers)
wanted=("${@:-${all[@]}}")
for name in "${wanted[@]}"; do
    case " ${all[*]} " in
    *" $name "*) ;;
    *)
        echo "no step $name; the steps are ${all[*]}" >&2
        exit 2
        ;;
    esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MECHGRAPH_ADAPTER=${MECHGRAPH_ADAPTER:-NVIDIA}
# Times of compiling are those of a first run.
export CUDA_CACHE_DISABLE=1
# Vulkan's loader complains of its absence.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work}
gunzip -c "$folder/mechgraph.gz" >"$work/mechgraph" && gunzip -c "$folder/unit.gz" >"$work/unit" &&
    gunzip -c "$folder/it.gz" >"$work/it" && chmod +x "$work/mechgraph" "$work/unit" "$work/it" || exit 2
mechgraph=$work/mechgraph
log=$out/log.txt
summary=$out/summary.txt
: >"$log"
: >"$summary"
rm -f "$out/bench.json"
failed=0

# Test binaries look for the checkout and the binary where they were built.
{ read -r checkout && read -r binary; } <"$folder/paths" || exit 2
[ -e "$checkout" ] || { mkdir -p "$(dirname "$checkout")" && ln -s "$repo" "$checkout"; }
[ -e "$binary" ] || { mkdir -p "$(dirname "$binary")" && cp "$mechgraph" "$binary"; }

for deb in "$folder"/gl/*.deb "$repo"/.gl/*.deb; do
    [ -e "$deb" ] && dpkg -x "$deb" / && loaders=1
done
[ -n "${loaders:-}" ] && ldconfig
icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -e "$icd" ] && [ -z "${VK_DRIVER_FILES:-}" ] && [ "$MECHGRAPH_ADAPTER" = NVIDIA ]; then
    export VK_DRIVER_FILES=$icd
fi

# part SECONDS COMMAND..: runs a part of a step. Its output goes to the log and stays in $work/part; a
# failure marks the step, and the first sentence that says why is kept.
part() {
    local limit=$1 status why
    shift
    echo "\$ $*" >>"$log"
    timeout --kill-after=10 "$limit" "$@" >"$work/part" 2>&1 </dev/null
    status=$?
    cat "$work/part" >>"$log"
    [ "$status" -eq 0 ] && return 0
    step_status=FAILED
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        why="$limit s were not enough for $(basename "$1")"
    else
        why=$(grep -m1 -E '^error: |no NVIDIA driver' "$work/part" ||
            grep -m1 -E 'panicked at|failed to run command|Error: |ERROR SUMMARY' "$work/part")
        why=${why:0:120}
        why=${why:-$(basename "$1") ended with status $status}
    fi
    note=${note:-$why}
    return "$status"
}

# shown PATTERN: lines of the last part that belong on the screen.
shown() { grep -E "$1" "$work/part" | head -40; }

machine() {
    part 20 nvidia-smi || note="no driver: $note"
    shown 'Driver Version|NVIDIA '
    part 20 nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit,temperature.gpu,memory.total --format=csv
    part 20 lscpu
}

devices() {
    part 60 "$mechgraph" devices
    shown .
    part 60 "$mechgraph" devices --json && cp "$work/part" "$out/devices.json"
}

doctor() {
    part 120 "$mechgraph" doctor --backend cuda --quiet
    shown 'checks: |failed|on the host|^error'
    part 120 "$mechgraph" doctor --backend wgpu --adapter "$MECHGRAPH_ADAPTER" --quiet
    shown 'checks: |failed|on the host|^error'
}

tests_cuda() {
    MECHGRAPH_CUDA=1 part 240 "$work/it" cuda_nvidia --show-output
    shown '^test result|^skipped'
}

tests_unit() {
    part 240 "$work/unit"
    shown '^test result'
}

probe() {
    part 240 "$mechgraph" bench --probe --backend cuda --quiet --force --out "$out/probe.json"
    shown .
}

# Operations of `mechgraph bench`.
ops=(gram linear tangent product moments edges gated attention attention-tangent attention-cotangent packed-attention
    attention-moments attention-edges norm norm-tangent norm-cotangent norm-moments rank-one-edges embed rope loss peaks
    trie-match probes probe-rows mask readout)

# bench BACKEND FLAGS..: an operation a run, so that one that fails does not take the others along. One that the
# backend leaves to the host has no rates and is no failure.
bench() {
    local backend=$1 op status why
    shift
    for op in "${ops[@]}"; do
        rm -f "$work/bench.json"
        status=$step_status why=$note
        if part 240 "$mechgraph" bench "$op" --backend "$backend" "$@" --quiet --out "$work/bench.json"; then
            cat "$work/bench.json" >>"$out/bench.json"
        elif grep -q "backend $backend: no kernel for $op;" "$work/part"; then
            step_status=$status note=$why
            continue
        elif grep -q "^error: backend $backend: " "$work/part"; then
            shown .
            return
        fi
        shown .
    done
}

# Linear maps on the adapter's cooperative matrices; one without them is refused, which is no failure.
bench_cooperative() {
    local status=$step_status why=$note
    rm -f "$work/bench.json"
    if part 240 "$mechgraph" bench linear tangent --backend wgpu --adapter "$MECHGRAPH_ADAPTER" --cooperative --quiet \
        --out "$work/bench.json"; then
        cat "$work/bench.json" >>"$out/bench.json"
    elif grep -q '^error: backend wgpu: .* or no --cooperative$' "$work/part"; then
        step_status=$status note=$why
    fi
    shown .
}

tests_wgpu() {
    part 240 "$work/it" wgpu_llvmpipe wgpu::activations wgpu::cooperative wgpu::gram wgpu::linear \
        wgpu::narrow wgpu_subgroups wgpu_heads --show-output
    shown '^test result|^skipped'
}

lib() {
    local run runs=()
    for run in "cpu f64" "cuda f64" "cpu f32" "cuda f32" "wgpu f32"; do
        local backend=${run% *} dtype=${run#* } flags=()
        [ "$backend" = wgpu ] && flags=(--adapter "$MECHGRAPH_ADAPTER")
        local to=$work/lib-$backend-$dtype
        part 120 "$mechgraph" lib demo:modadd --method moments --backend "$backend" "${flags[@]}" --dtype "$dtype" --quiet --out "$to" &&
            runs+=("$to")
    done
    part 60 python3 "$repo/benches/compare_runs.py" "${runs[@]}"
    shown .
    # The published model, in f64 as in the paper.
    [ -d "$folder/lib-paper" ] || return 0
    runs=()
    for run in cpu cuda; do
        part 120 "$mechgraph" lib "$folder/lib-paper" --data "$folder/lib-paper/dataset.safetensors#train" --backend "$run" \
            --threshold 1e-15 --dtype f64 --quiet --out "$work/paper-$run" && runs+=("$work/paper-$run")
    done
    part 60 python3 "$repo/benches/compare_runs.py" "${runs[@]}"
    shown .
}

n2g() {
    local backend runs=()
    for backend in cpu cuda wgpu; do
        local to=$work/n2g-$backend flags=()
        [ "$backend" = wgpu ] && flags=(--adapter "$MECHGRAPH_ADAPTER")
        part 240 "$mechgraph" n2g demo:lm --neurons 0..64 --backend "$backend" "${flags[@]}" --dtype f32 --quiet --out "$to" &&
            runs+=("$to")
    done
    part 60 python3 "$repo/benches/compare_runs.py" "${runs[@]}"
    shown .
}

sanitizer() {
    local tool found
    found=$(command -v compute-sanitizer || find /usr/local -path '/usr/local/cuda*/bin/compute-sanitizer' 2>/dev/null | tail -1)
    for tool in memcheck racecheck synccheck initcheck; do
        part 150 "${found:-compute-sanitizer}" --tool "$tool" --error-exitcode 9 "$mechgraph" bench gram linear tangent \
            --backend cuda --quiet --repeats 1 --shape 300x130 --shape 144x70x150
        shown 'ERROR SUMMARY|RACECHECK SUMMARY'
        # All other operations, on the small shapes of their tests.
        MECHGRAPH_CUDA=1 part 240 "${found:-compute-sanitizer}" --tool "$tool" --error-exitcode 9 "$work/it" cuda_nvidia \
            --skip commands --skip doctor --skip models --skip whole --skip lib:: --test-threads 1
        shown 'ERROR SUMMARY|RACECHECK SUMMARY'
    done
}

peers() {
    part 240 python3 "$repo/benches/peers/kernels.py" && cp "$work/part" "$out/peers.json"
    shown .
    part 240 python3 "$repo/benches/peers/lib_modadd.py" "$repo/demos/modadd" "$repo/demos/modadd/dataset.safetensors"
    shown .
}

for name in "${wanted[@]}"; do
    echo "== $name" | tee -a "$log"
    step_status=ok note='' started=$SECONDS
    case $name in
    machine) machine ;;
    devices) devices ;;
    doctor) doctor ;;
    tests-cuda) tests_cuda ;;
    tests-unit) tests_unit ;;
    probe) probe ;;
    bench-cuda) bench cuda ;;
    lib) lib ;;
    n2g) n2g ;;
    tests-wgpu) tests_wgpu ;;
    bench-wgpu)
        bench wgpu --adapter "$MECHGRAPH_ADAPTER"
        bench_cooperative
        ;;
    sanitizer) sanitizer ;;
    peers) peers ;;
    esac
    [ "$step_status" = ok ] || failed=1
    printf '%-11s %-6s %4d s  %s\n' "$name" "$step_status" $((SECONDS - started)) "$note" >>"$summary"
done
if [ -e "$out/bench.json" ]; then
    { echo && python3 "$repo/benches/rates.py" "$out/bench.json"; } >>"$summary" 2>>"$log" || failed=1
fi
echo
cat "$summary"
exit "$failed"
