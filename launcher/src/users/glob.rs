//! Which cameras a user's patterns mean: `*` stands for any text, `?` for one character.

/// Whether `text` is what `pattern` means. Takes time in proportion to the product of
/// their lengths at most, as only the last `*` is ever gone back to.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut next) = (0, 0);
    // After the last star: where it goes on in the pattern, and the text that it stands for ends.
    let mut star = None;
    while at < text.len() {
        match pattern.get(next) {
            Some(b'*') => {
                next += 1;
                star = Some((next, at));
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                next += 1;
                at += 1;
            }
            _ => match star {
                Some((after, end)) => {
                    star = Some((after, end + 1));
                    (next, at) = (after, end + 1);
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks_stand_for_text() {
        for (pattern, text) in [
            ("*", "door"),
            ("*", ""),
            ("door", "door"),
            ("door*", "door"),
            ("door*", "door-2"),
            ("*or", "door"),
            ("d*o*r", "door"),
            ("*a*b", "aab-ab"),
            ("door?", "door2"),
            ("lab/*", "lab/bench"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "door"),
            ("door", "Door"),
            ("door", "doors"),
            ("door?", "door"),
            ("*x*", "door"),
            ("d*o", "door"),
            ("*a*b", "aab-aba"),
            ("lab/*", "lab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
