//! The texts of single tokens, as a reader of text sees them.
//!
//! They are read off the vocabulary and not decoded: the library's decoders drop the space that a first
//! word begins with, and turn bytes that are no character alone into one and the same U+FFFD.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

/// How a vocabulary writes its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// A character for every byte, as GPT-2 introduced it.
    ByteLevel,
    /// `▁` for a space, and perhaps `<0x0A>` for the byte 0A.
    SentencePiece { bytes: bool },
    /// As they are.
    Plain,
}

/// By id below `size`: the text of the token, `<id N>` where there is none.
pub fn texts(pipeline: &Tokenizer, size: usize) -> Vec<String> {
    let style = style(pipeline);
    let bytes = byte_of();
    let added = pipeline.get_added_tokens_decoder();
    let text = |id: u32| match (added.get(&id), pipeline.id_to_token(id)) {
        (Some(token), _) if token.special || style == Style::ByteLevel => token.content.clone(),
        (_, None) => format!("<id {id}>"),
        (_, Some(raw)) => match style {
            Style::Plain => raw,
            Style::ByteLevel => raw.chars().map(|c| bytes.get(&c).copied()).collect::<Option<Vec<u8>>>().map_or(raw, readable),
            Style::SentencePiece { bytes } => match fallback(&raw).filter(|_| bytes) {
                Some(byte) => readable(vec![byte]),
                None => raw.replace('▁', " "),
            },
        },
    };
    (0..size as u32).map(text).collect()
}

fn style(pipeline: &Tokenizer) -> Style {
    // Parts that cannot be written as JSON cannot have been read from it.
    let decoder = serde_json::to_value(pipeline.get_decoder()).unwrap_or_default();
    let splitter = serde_json::to_value(pipeline.get_pre_tokenizer()).unwrap_or_default();
    if has_type(&decoder, "ByteLevel") || has_type(&splitter, "ByteLevel") {
        return Style::ByteLevel;
    }
    let falls_back = match pipeline.get_model() {
        ModelWrapper::BPE(bpe) => bpe.byte_fallback,
        ModelWrapper::Unigram(unigram) => unigram.byte_fallback(),
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => return Style::Plain,
    };
    Style::SentencePiece { bytes: falls_back || has_type(&decoder, "ByteFallback") }
}

/// Whether a part of a pipeline, or one of its parts, is of this type.
fn has_type(part: &Value, name: &str) -> bool {
    match part {
        Value::Object(map) => map.get("type").is_some_and(|t| t == name) || map.values().any(|v| has_type(v, name)),
        Value::Array(list) => list.iter().any(|v| has_type(v, name)),
        _ => false,
    }
}

/// The byte of a token `<0x0A>`.
fn fallback(raw: &str) -> Option<u8> {
    let digits = raw.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The bytes that byte-level vocabularies write as these characters: printable ones of Latin-1 stand for
/// themselves, those from U+0100 on for the others in order.
fn byte_of() -> HashMap<char, u8> {
    let mut next = 0x100u32;
    let character = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    };
    (0..=u8::MAX).map(character).zip(0..=u8::MAX).collect()
}

/// Bytes as UTF-8, those that are none as `\xE2`.
fn readable(bytes: Vec<u8>) -> String {
    let escaped = |chunk: &[u8]| chunk.iter().map(|b| format!("\\x{b:02X}")).collect::<String>();
    bytes.utf8_chunks().map(|c| c.valid().to_string() + &escaped(c.invalid())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use serde_json::json;

    use super::super::{FILE, Tokenizer};
    use super::*;
    use crate::model::fixture::{shared, words};

    fn texts_of(file: &Value) -> Vec<String> {
        Tokenizer::embedded(Path::new("M"), file.to_string().as_bytes(), &Value::Null).unwrap().token_texts().unwrap()
    }
    fn pipeline(model: Value, decoder: Value, added: &[(u32, &str, bool)]) -> Value {
        let token = |&(id, content, special): &(u32, &str, bool)| json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        let added: Vec<Value> = added.iter().map(token).collect();
        json!({"version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": null, "decoder": decoder, "model": model})
    }

    #[test]
    fn bytes_are_read_as_utf_8_where_they_are() {
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let vocab = json!({"a": 0, "Ġthe": 1, "Ċ": 2, "âĢ": 3, "Ġâ": 4, "Ã©": 5, "Ń": 6, "<Ġ>": 7, "▁x": 8, "<0x0A>": 9, "aÃ": 10, "  é": 11});
        let model = json!({"type": "BPE", "vocab": vocab, "merges": []});
        let file = pipeline(model, byte_level, &[(7, "<Ġ>", true), (11, "  é", false)]);
        let want = ["a", " the", "\n", "\\xE2\\x80", " \\xE2", "é", "\\xAD", "<Ġ>", "▁x", "<0x0A>", "a\\xC3", "  é"];
        assert_eq!(texts_of(&file), want);
    }

    #[test]
    fn every_byte_has_a_character() {
        let map = byte_of();
        assert_eq!(map.len(), 256);
        for (c, byte) in [('Ā', 0), ('Ġ', b' '), ('Ċ', b'\n'), ('ġ', 0x7f), ('ł', 0xa0), ('Ń', 0xad), ('ÿ', 0xff), ('z', b'z')]
        {
            assert_eq!(map[&c], byte, "{c}");
        }
        assert_eq!(
            map.keys().copied().collect::<HashSet<_>>(),
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect()
        );
    }

    #[test]
    fn marks_of_words_become_spaces() {
        let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
        let decoder = json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]});
        let vocab =
            json!({"<unk>": 0, "▁": 1, "▁the": 2, "a▁▁b": 3, "<0x0A>": 4, "<0xE2>": 5, "<0xZZ>": 6, "▁▁": 7, "<▁>": 8, "Ġ": 9});
        let bpe = |fallback: bool| json!({"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": fallback});
        let added = [(0, "<unk>", true), (7, "▁▁", false), (8, "<▁>", true)];
        let want = ["<unk>", " ", " the", "a  b", "\n", "\\xE2", "<0xZZ>", "  ", "<▁>", "Ġ"];
        assert_eq!(texts_of(&pipeline(bpe(false), decoder, &added)), want);
        assert_eq!(texts_of(&pipeline(bpe(true), Value::Null, &added)), want);
        let none = texts_of(&pipeline(bpe(false), Value::Null, &added));
        assert_eq!((none[4].as_str(), none[2].as_str()), ("<0x0A>", " the"));
        let vocab = json!([["<unk>", 0.0], ["▁the", -1.0], ["<0x41>", -2.0]]);
        let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": true});
        assert_eq!(texts_of(&pipeline(unigram, Value::Null, &[])), ["<unk>", " the", "A"]);
    }

    #[test]
    fn words_and_their_pieces_stay() {
        let vocab = json!({"[UNK]": 0, "play": 1, "##ing": 2, "▁": 3, "<0x41>": 5});
        let model = json!({"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
        let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        assert_eq!(
            texts_of(&pipeline(model, decoder, &[(0, "[UNK]", true)])),
            ["[UNK]", "play", "##ing", "▁", "<id 4>", "<0x41>"]
        );
        assert_eq!(texts_of(&words()), ["<unk>", "the", "cat", "sat", "<s>", "</s>"]);
    }

    #[test]
    fn texts_of_published_tokenizers_are_those_of_their_decoders() {
        let lm = Tokenizer::embedded(Path::new("M"), include_bytes!("../../../demos/lm/tokenizer.json"), &Value::Null).unwrap();
        let shared = shared().map(|dir| Tokenizer::open(&dir.join("fixtures/lm/glassllm-en"), &Value::Null).unwrap());
        for (t, whole) in [(Some(lm), 0.9), (shared, 1.0)] {
            let Some(t) = t else { continue };
            let texts = t.token_texts().unwrap();
            assert_eq!(texts.len(), t.size(), "{FILE}");
            assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
            let mut same = 0;
            for (id, text) in texts.iter().enumerate() {
                let decoded = t.decode(&[id as u32]).unwrap();
                // Where a decoder gives up, the bytes are kept apart.
                assert!(&decoded == text || (decoded.contains('\u{fffd}') && text.contains("\\x")), "{id}: {decoded:?} {text:?}");
                same += usize::from(&decoded == text);
            }
            assert!(same as f64 >= whole * texts.len() as f64, "{same}");
        }
    }
}
