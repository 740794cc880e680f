    @builtin(local_invocation_index) thread: u32,
