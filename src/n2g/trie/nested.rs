//! A trie as nested JSON objects, for people.

use serde_json::{Map, Value, json};

use super::{START, Trie, WILDCARD};
use crate::n2g::vocabulary::Vocabulary;

/// How the elements that are no tokens are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `**IGNORE**`, `**START**`, and `**END**` for the value: the reference's names.
    Reference,
    /// `token(*)`, `token(^)`, and `<saliency>` for the value: those of OpenAI's code.
    OpenAi,
}

impl Style {
    fn wildcard(self) -> &'static str {
        match self {
            Style::Reference => "**IGNORE**",
            Style::OpenAi => "token(*)",
        }
    }
    fn start(self) -> &'static str {
        match self {
            Style::Reference => "**START**",
            Style::OpenAi => "token(^)",
        }
    }
    fn value(self) -> &'static str {
        match self {
            Style::Reference => "**END**",
            Style::OpenAi => "<saliency>",
        }
    }
}

impl Trie {
    /// Objects within each other, a member for every child by the name of its key, and one for the value
    /// of the pattern that ends there: in single precision, the shortest decimal that stands for it.
    pub fn nested(&self, vocabulary: &Vocabulary, style: Style) -> Value {
        // Children are numbered behind their parents, so the last nodes are ready first.
        let mut objects: Vec<Value> = vec![Value::Null; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().rev() {
            let mut object: Map<String, Value> =
                node.end.iter().map(|value| (style.value().into(), json!(shortest(*value)))).collect();
            for &child in &node.children {
                let name = match self.nodes[child as usize].key {
                    WILDCARD => style.wildcard(),
                    START => style.start(),
                    key => vocabulary.name(key),
                };
                object.insert(name.into(), objects[child as usize].take());
            }
            objects[i] = Value::Object(object);
        }
        objects.swap_remove(0)
    }
}

/// The shortest decimal that is `value` in single precision.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}
