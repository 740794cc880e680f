//! Which operations of a run were computed on the device and which on the host.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Operations by where they ran, in snake case: `gram`, `attention_moments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    pub device: BTreeSet<String>,
    pub host: BTreeSet<String>,
}

/// A growing [`Placed`], shared by the programs of a run.
#[derive(Debug, Default)]
pub struct Placement(Mutex<Placed>);

impl Placement {
    /// Notes that programs run the operation `name` (in camel case) there.
    pub fn note(&self, name: &str, on_device: bool) {
        let mut snake = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        let mut placed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if on_device {
            placed.device.insert(snake)
        } else {
            placed.host.insert(snake)
        };
    }
    /// What was noted so far.
    pub fn placed(&self) -> Placed {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_listed_once_in_snake_case() {
        let placement = Placement::default();
        for name in ["Gram", "AttentionMoments", "Gram"] {
            placement.note(name, name == "Gram");
        }
        let placed = placement.placed();
        assert_eq!((placed.device.len(), placed.host.first().map(String::as_str)), (1, Some("attention_moments")));
    }
}
