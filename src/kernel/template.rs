//! The text expander of the kernel files: constants, repetition, register lists, includes.
//!
//! It copies lines; it never chooses instructions and never allocates registers, so an expanded
//! kernel reads like its file.
//!
//! | written | becomes |
//! |---|---|
//! | `{{EXPR}}` | the value of an integer expression (`+ - * / %`, parentheses, `log2(..)` of a power of two) over constants, or a constant that is a word |
//! | `{{list %acc 8 4}}` | `%acc8, %acc9, %acc10, %acc11`; start and count are expressions without spaces |
//! | `@for i in 0..TM {` .. `@}` | the lines between, once for each `i` |
//! | `@include "frag/FILE" name=word ..` | the fragment, with further constants |

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// A constant of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Int(i64),
    Word(String),
}

/// The constants of one configuration, by name. Names may hold dots: `params.rows`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constants(BTreeMap<String, Value>);

impl Constants {
    /// Adds an integer.
    pub fn int(mut self, name: impl Into<String>, value: usize) -> Self {
        self.0.insert(name.into(), Value::Int(value as i64));
        self
    }
    /// Adds integers by their names.
    pub fn ints(self, values: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        values.into_iter().fold(self, |all, (name, value)| all.int(name, value as usize))
    }
    /// Adds a word: a mnemonic's suffix, a register, part of a file name.
    pub fn word(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), Value::Word(value.into()));
        self
    }
    /// Adds those of `other`.
    pub fn with(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }
    /// The value of an integer constant.
    pub fn get_int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Int(n)) => Some(*n),
            _ => None,
        }
    }
    /// The value of a constant that is a word.
    pub fn get_word(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }
    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// Expands `source`, the text of the file `name`; `fragment` finds the text of an included file.
///
/// An error names the file and the line of the template.
pub fn expand(
    name: &str,
    source: &str,
    constants: &Constants,
    fragment: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<String> {
    let lines: Vec<(usize, &str)> = source.lines().enumerate().map(|(i, l)| (i + 1, l)).collect();
    let mut out = String::with_capacity(2 * source.len());
    Expander { name, fragment }.block(&lines, constants, &mut out)?;
    Ok(out)
}

struct Expander<'a> {
    name: &'a str,
    fragment: &'a dyn Fn(&str) -> Option<&'static str>,
}

impl Expander<'_> {
    fn error(&self, line: usize, found: impl Into<String>, expected: &str) -> Error {
        Error::Template { file: self.name.into(), line, found: found.into(), expected: expected.into() }
    }

    fn block(&self, lines: &[(usize, &str)], constants: &Constants, out: &mut String) -> Result<()> {
        let mut i = 0;
        while i < lines.len() {
            let (line, text) = lines[i];
            let directive = text.trim();
            if let Some(head) = directive.strip_prefix("@for ") {
                let end = self.end_of_loop(&lines[i..], line)? + i;
                let (variable, from, to) = self.range(line, head, constants)?;
                for value in from..to {
                    let mut inner = constants.clone();
                    inner.0.insert(variable.clone(), Value::Int(value));
                    self.block(&lines[i + 1..end], &inner, out)?;
                }
                i = end;
            } else if let Some(rest) = directive.strip_prefix("@include ") {
                self.include(line, rest, constants, out)?;
            } else if directive == "@}" {
                return Err(self.error(line, "'@}'", "an '@for' before it"));
            } else {
                self.line(line, text, constants, out)?;
                out.push('\n');
            }
            i += 1;
        }
        Ok(())
    }

    /// The index of the `@}` that closes the `@for` in the first line.
    fn end_of_loop(&self, lines: &[(usize, &str)], line: usize) -> Result<usize> {
        let mut depth = 0;
        for (i, (_, text)) in lines.iter().enumerate() {
            match text.trim() {
                "@}" => depth -= 1,
                t if t.starts_with("@for ") => depth += 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(i);
            }
        }
        Err(self.error(line, "'@for' without an end", "a line '@}'"))
    }

    /// `i in FROM..TO {`
    fn range(&self, line: usize, head: &str, constants: &Constants) -> Result<(String, i64, i64)> {
        let parts = || {
            let (variable, range) = head.strip_suffix('{')?.split_once(" in ")?;
            let (from, to) = range.split_once("..")?;
            Some((variable.trim(), from, to))
        };
        let expected = "'@for NAME in FROM..TO {'";
        let (variable, from, to) = parts().ok_or_else(|| self.error(line, format!("'@for {head}'"), expected))?;
        Ok((variable.into(), self.int(line, from, constants)?, self.int(line, to, constants)?))
    }

    fn include(&self, line: usize, rest: &str, constants: &Constants, out: &mut String) -> Result<()> {
        let mut expanded = String::new();
        self.line(line, rest, constants, &mut expanded)?;
        let expected = "'@include \"FILE\" NAME=WORD ..'";
        let parts = expanded.strip_prefix('"').and_then(|r| r.split_once('"'));
        let (file, words) = parts.ok_or_else(|| self.error(line, format!("'@include {rest}'"), expected))?;
        let text = (self.fragment)(file).ok_or_else(|| self.error(line, format!("'{file}'"), "a fragment of the registry"))?;
        let mut inner = constants.clone();
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| self.error(line, format!("'{word}'"), expected))?;
            inner = match value.parse() {
                Ok(n) => inner.int(name, n),
                Err(_) => inner.word(name, value),
            };
        }
        out.push_str(&expand(file, text, &inner, self.fragment)?);
        Ok(())
    }

    /// Replaces every `{{..}}` of a line.
    fn line(&self, line: usize, text: &str, constants: &Constants, out: &mut String) -> Result<()> {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (expression, behind) =
                after.split_once("}}").ok_or_else(|| self.error(line, format!("'{{{{{after}'"), "'}}' behind it"))?;
            out.push_str(before);
            out.push_str(&self.value(line, expression.trim(), constants)?);
            rest = behind;
        }
        out.push_str(rest);
        Ok(())
    }

    fn value(&self, line: usize, expression: &str, constants: &Constants) -> Result<String> {
        if let Some(Value::Word(word)) = constants.0.get(expression) {
            return Ok(word.clone());
        }
        if let Some(list) = expression.strip_prefix("list ") {
            let parts: Vec<&str> = list.split_whitespace().collect();
            let [prefix, from, count] = parts[..] else {
                return Err(self.error(line, format!("'{expression}'"), "'list PREFIX FROM COUNT'"));
            };
            let (from, count) = (self.int(line, from, constants)?, self.int(line, count, constants)?);
            let names: Vec<String> = (from..from + count).map(|i| format!("{prefix}{i}")).collect();
            return Ok(names.join(", "));
        }
        Ok(self.int(line, expression, constants)?.to_string())
    }

    fn int(&self, line: usize, expression: &str, constants: &Constants) -> Result<i64> {
        let mut parser = Parser { rest: expression.trim(), constants };
        match parser.sum() {
            Some(value) if parser.rest.is_empty() => Ok(value),
            _ => {
                Err(self.error(line, format!("'{expression}'"), "an integer expression over the constants of the configuration"))
            }
        }
    }
}

/// A recursive-descent parser of integer expressions; `None` for a syntax error, an unknown name, a
/// division by zero, the `log2` of no power of two, or an overflow.
struct Parser<'a> {
    rest: &'a str,
    constants: &'a Constants,
}

impl Parser<'_> {
    fn take(&mut self, symbol: char) -> bool {
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }
    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value = value.checked_add(self.product()?)?;
            } else if self.take('-') {
                value = value.checked_sub(self.product()?)?;
            } else {
                return Some(value);
            }
        }
    }
    fn product(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        loop {
            if self.take('*') {
                value = value.checked_mul(self.atom()?)?;
            } else if self.take('/') {
                value = value.checked_div(self.atom()?)?;
            } else if self.take('%') {
                value = value.checked_rem(self.atom()?)?;
            } else {
                return Some(value);
            }
        }
    }
    fn atom(&mut self) -> Option<i64> {
        if self.take('(') {
            let value = self.sum()?;
            return self.take(')').then_some(value);
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if word == "log2" && self.rest.starts_with('(') {
            let value = u64::try_from(self.atom()?).ok()?;
            return value.is_power_of_two().then(|| value.ilog2().into());
        }
        word.parse().ok().or_else(|| self.constants.get_int(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> Result<String> {
        let constants = Constants::default().int("TM", 2).int("params.rows", 8).word("CACHE", "cg");
        let fragment = |file: &str| (file == "frag/cg.ptxh").then_some("neg.f32 {{y}}, {{x}};");
        expand("k.ptx", source, &constants, &fragment)
    }

    #[test]
    fn constants_lists_loops_and_includes_expand() {
        let source = "ld [p+{{params.rows}}], {{CACHE}};\n@for i in 0..TM {\n  @for j in i..2 {\n  a{{i*TM+j}} {{(1 + TM)*2%4+log2(TM*4)}}\n  @}\n@}\n\
                      mma { {{list %c 2*TM 3}} };\n@include \"frag/{{CACHE}}.ptxh\" x=%a{{TM}} y=%b";
        let expected = "ld [p+8], cg;\n  a0 5\n  a1 5\n  a3 5\nmma { %c4, %c5, %c6 };\nneg.f32 %b, %a2;\n";
        assert_eq!(text(source).unwrap(), expected);
    }

    #[test]
    fn every_mistake_names_file_and_line() {
        for (source, found) in [
            ("x\n{{NOPE}}", "'NOPE'"),
            ("x\n{{TM", "'{{TM'"),
            ("x\n@for i in 0..TM {\ny", "'@for' without an end"),
            ("x\n@}", "'@}'"),
            ("x\n@for i = 3 {\n@}", "'@for i = 3 {'"),
            ("x\n@include \"frag/none.ptxh\"", "'frag/none.ptxh'"),
            ("x\n@include frag", "'@include frag'"),
            ("x\n{{1/0}}", "'1/0'"),
            ("x\n{{TM+}}", "'TM+'"),
            ("x\n{{log2(6)}}", "'log2(6)'"),
            ("x\n{{log2(0)}}", "'log2(0)'"),
            ("x\n{{list a 1}}", "'list a 1'"),
        ] {
            let message = text(source).unwrap_err().to_string();
            assert!(message.contains("k.ptx, line 2") && message.contains(found), "{source}: {message}");
        }
    }
}
