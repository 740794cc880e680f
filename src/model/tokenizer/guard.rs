//! Calls into the tokenizer library that may not end in a panic.
//!
//! The library indexes and unwraps where a file contradicts itself. Such a panic becomes a message
//! here, and nothing of it reaches stderr.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The most characters of a message, which may quote a file.
const MAX_CHARS: usize = 300;

/// What `f` returns, or the message of its failure or its panic. What `f` borrows must not be used
/// after a panic unless any state of it is a valid one.
pub fn guarded<T>(f: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(false);
    let message = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => text.to_string(),
            (_, Some(text)) => text.clone(),
            _ => "an inconsistency".into(),
        },
    };
    Err(message.chars().take(MAX_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_become_messages() {
        assert_eq!(guarded(|| Ok(3)), Ok(3));
        assert_eq!(guarded::<u8>(|| Err("not so".into())), Err("not so".into()));
        assert_eq!(guarded::<u8>(|| panic!("plain")), Err("plain".into()));
        assert_eq!(guarded::<u8>(|| panic!("number {}", 7)), Err("number 7".into()));
        assert_eq!(guarded::<u8>(|| panic::panic_any(7)), Err("an inconsistency".into()));
        assert_eq!(guarded::<u8>(|| Err("é".repeat(999).into())), Err("é".repeat(MAX_CHARS)));
        assert!(panic::catch_unwind(|| panic!("outside")).is_err());
    }
}
