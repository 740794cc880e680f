//! Cuts PTX text into tokens. Opcodes with their modifiers (`ld.global.v4.f32`), directives (`.reg`), registers and
//! symbols are single words; what they mean is for the parser.

use crate::fault::ParseError;

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Token {
    /// A run of letters, digits, `_`, `$`, `%`, with dots (and `::`) inside it, or a dot before it.
    Word(String),
    Integer(i128),
    /// A decimal, `0f` or `0d` literal.
    Float(f64),
    Text(String),
    Symbol(char),
    /// `<<` or `>>`.
    Shift(char),
    End,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Located {
    pub token: Token,
    pub line: usize,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Integer(value) => write!(f, "`{value}`"),
            Self::Float(value) => write!(f, "`{value}`"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::Shift(symbol) => write!(f, "`{symbol}{symbol}`"),
            Self::End => write!(f, "the end of the text"),
        }
    }
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%')
}

fn in_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$')
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, message: message.into() })
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => {
                    while self.at < self.text.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let first = self.line;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        if self.at >= self.text.len() {
                            return Err(ParseError {
                                line: first,
                                message: "a comment opens here; expected `*/` to end it".into(),
                            });
                        }
                        self.line += usize::from(self.peek(0) == b'\n');
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        loop {
            if in_word(self.peek(0)) {
                self.at += 1;
            } else if self.peek(0) == b'.' && (in_word(self.peek(1))) {
                self.at += 2;
            } else if self.peek(0) == b':' && self.peek(1) == b':' && in_word(self.peek(2)) {
                self.at += 3;
            } else {
                return String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
            }
        }
    }

    fn digits(&mut self, accept: impl Fn(u8) -> bool) -> String {
        let start = self.at;
        while accept(self.peek(0)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        if self.peek(0) == b'0' {
            let (prefix, base) = (self.peek(1).to_ascii_lowercase(), self.at + 2);
            match prefix {
                b'x' | b'b' => {
                    self.at = base;
                    let digits = self.digits(|c| c.is_ascii_hexdigit());
                    self.unsigned_suffix();
                    let radix = if prefix == b'x' { 16 } else { 2 };
                    return match u64::from_str_radix(&digits, radix) {
                        Ok(value) => Ok(Token::Integer(value.into())),
                        Err(_) => self.error(format!("`0{}{digits}` is no integer of 64 bits", prefix as char)),
                    };
                }
                b'f' | b'd' => {
                    self.at = base;
                    let digits = self.digits(|c| c.is_ascii_hexdigit());
                    let expected = if prefix == b'f' { 8 } else { 16 };
                    return match (u64::from_str_radix(&digits, 16), digits.len() == expected) {
                        (Ok(bits), true) if prefix == b'f' => Ok(Token::Float(f32::from_bits(bits as u32).into())),
                        (Ok(bits), true) => Ok(Token::Float(f64::from_bits(bits))),
                        _ => self.error(format!(
                            "`0{}{digits}` holds {} hex digits; expected {expected}",
                            prefix as char,
                            digits.len()
                        )),
                    };
                }
                _ => {}
            }
        }
        let start = self.at;
        self.digits(|c| c.is_ascii_digit());
        let mut float = false;
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            float = true;
            self.at += 1;
            self.digits(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(0), b'e' | b'E') && (self.peek(1).is_ascii_digit() || matches!(self.peek(1), b'+' | b'-')) {
            float = true;
            self.at += 2;
            self.digits(|c| c.is_ascii_digit());
        }
        let text = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        if float {
            return match text.parse() {
                Ok(value) => Ok(Token::Float(value)),
                Err(_) => self.error(format!("`{text}` is no number")),
            };
        }
        self.unsigned_suffix();
        // A leading zero makes a literal octal, as in C.
        let octal = text.len() > 1 && text.starts_with('0');
        match u64::from_str_radix(&text, if octal { 8 } else { 10 }) {
            Ok(value) => Ok(Token::Integer(value.into())),
            Err(_) => self.error(format!("`{text}` is no integer of 64 bits")),
        }
    }

    fn unsigned_suffix(&mut self) {
        self.at += usize::from(self.peek(0) == b'U');
    }

    fn text(&mut self) -> Result<Token, ParseError> {
        self.at += 1;
        let content = self.digits(|c| !matches!(c, b'"' | b'\n' | 0));
        if self.peek(0) != b'"' {
            return self.error("a string opens here; expected `\"` on the same line to end it");
        }
        self.at += 1;
        Ok(Token::Text(content))
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_blanks()?;
        if self.at >= self.text.len() {
            return Ok(Token::End);
        }
        let c = self.peek(0);
        let register = c == b'%' && starts_word(self.peek(1)) && self.peek(1) != b'%';
        if register || c != b'%' && starts_word(c) || c == b'.' && starts_word(self.peek(1)) {
            return Ok(Token::Word(self.word()));
        }
        if c.is_ascii_digit() {
            return self.number();
        }
        if c == b'"' {
            return self.text();
        }
        self.at += 1;
        match c {
            b'<' | b'>' if self.peek(0) == c => {
                self.at += 1;
                Ok(Token::Shift(c as char))
            }
            b'{' | b'}' | b'(' | b')' | b'[' | b']' | b',' | b';' | b':' | b'@' | b'!' | b'|' | b'&' | b'^' | b'~' | b'+'
            | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Ok(Token::Symbol(c as char)),
            _ => self.error(format!("found the character {:?}; expected PTX", c as char)),
        }
    }
}

/// All tokens of `text` with their lines, [`Token::End`] last.
pub(crate) fn tokens(text: &str) -> Result<Vec<Located>, ParseError> {
    let mut lexer = Lexer { text: text.as_bytes(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push(Located { token, line: lexer.line });
        if end {
            return Ok(tokens);
        }
    }
}
