# Counts the tests in the output of `cargo test -- --show-output`, by backend; see .ci/run. Fails if no
# test ran, or if one was skipped that should have run. Variable: shared, `yes` where ../shared is there.

/^ +Running / { of_interpreter = /tests\/ptxvm/ || /deps\/(ptxvm|all)-/ }
/^ +Doc-tests / { of_interpreter = 0 }

/^test .* \.\.\. ok$/ {
    name = $2
    if (name ~ /::cuda_nvidia$/) backend = "cuda (driver)"
    else if (name ~ /(::|_)wgpu(_|::|$)/ || name ~ /^wgpu::/) backend = "wgpu (llvmpipe)"
    else if (of_interpreter || name ~ /::cuda_interpreter$/ || name ~ /^kernels_ptx::/ || name ~ /interpreter/ || name ~ /planted_in/) backend = "cuda (interpreter)"
    else if (name ~ /^ptxas::/) backend = "cuda (assemblers)"
    else if (name ~ /^shaders::/) backend = "wgpu (translators)"
    else backend = "cpu"
    passed[backend]++
    backend_of[name] = backend
    total++
}

/^---- .* stdout ----$/ { current = $2 }

/^skipped: / {
    if (current in backend_of && !(current in seen)) {
        seen[current] = 1
        skipped[backend_of[current]]++
    }
    reason = substr($0, 10)
    sub(/ \([0-9]+ tests so far\)$/, "", reason)
    reasons[reason]++
    allowed = reason ~ /^cuda nvidia: / || (shared != "yes" && reason ~ /\.\.\/shared/)
    if (!allowed) bad++
}

END {
    count = split("cpu;cuda (interpreter);cuda (assemblers);cuda (driver);wgpu (llvmpipe);wgpu (translators)", backends, ";")
    for (i = 1; i <= count; i++) {
        b = backends[i]
        printf "backend %-20s %4d tests ran, %d skipped\n", b ":", passed[b] - skipped[b], skipped[b]
    }
    for (reason in reasons) printf "skipped %d times: %s\n", reasons[reason], reason
    if (total == 0) { print "no test ran"; exit 1 }
    if (bad > 0) { print bad " skips that this machine should not need"; exit 1 }
}
