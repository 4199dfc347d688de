//! Text that is compared without regard to case, as the reference engine does (aws/event-ruler,
//! `EqualsIgnoreCaseParser`): each character of the pattern stands for its lower and its upper case, as long as those
//! may be: `ß` for `ß` and `SS`, but `SS` for no `ß`.
//!
//! Invariant: of the two ways to write a character none begins or ends with the other, so that a comparison never
//! has to go back.

/// A pattern's text, by characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    characters: Box<[Cases]>,
}

/// How a character may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cases {
    lower: Box<[u8]>,
    /// The same as `lower` where there is no other.
    upper: Box<[u8]>,
}

impl Folded {
    pub(super) fn new(text: &[u8]) -> Self {
        let chunks = text.utf8_chunks();
        let mut characters = Vec::new();
        for chunk in chunks {
            characters.extend(chunk.valid().chars().map(Cases::of));
            // Halves of surrogate pairs have no case.
            characters.extend(chunk.invalid().iter().map(|byte| Cases {
                lower: Box::new([*byte]),
                upper: Box::new([*byte]),
            }));
        }
        Self {
            characters: characters.into(),
        }
    }

    pub(super) fn equals(&self, text: &[u8]) -> bool {
        self.strip_prefix(text).is_some_and(<[u8]>::is_empty)
    }

    pub(super) fn is_prefix_of(&self, text: &[u8]) -> bool {
        self.strip_prefix(text).is_some()
    }

    pub(super) fn is_suffix_of(&self, text: &[u8]) -> bool {
        let mut rest = text;
        self.characters.iter().rev().all(|it| {
            let before = rest
                .strip_suffix(&*it.lower)
                .or_else(|| rest.strip_suffix(&*it.upper));
            rest = before.unwrap_or_default();
            before.is_some()
        })
    }

    fn strip_prefix<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut characters = self.characters.iter();
        characters.try_fold(text, |rest, it| {
            rest.strip_prefix(&*it.lower)
                .or_else(|| rest.strip_prefix(&*it.upper))
        })
    }
}

impl Cases {
    fn of(character: char) -> Self {
        // Beyond the first plane the engine compares units of UTF-16, which have no case.
        if u32::from(character) > 0xffff {
            let bytes = character.to_string().into_bytes().into_boxed_slice();
            return Self {
                lower: bytes.clone(),
                upper: bytes,
            };
        }
        let bytes = |text: String| text.into_bytes().into_boxed_slice();
        Self {
            lower: bytes(character.to_lowercase().collect()),
            upper: bytes(character.to_uppercase().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_is_its_lower_or_its_upper_case() {
        let equal =
            |pattern: &str, text: &str| Folded::new(pattern.as_bytes()).equals(text.as_bytes());
        assert!(equal("Alice", "aLICE"));
        assert!(!equal("Alice", "Alicia"));
        assert!(!equal("Alice", "Alic"));
        assert!(equal("", ""));
        assert!(equal("straße", "STRASSE"));
        assert!(equal("straße", "straße"));
        assert!(!equal("strasse", "straße"));
        assert!(equal("ÄÖ", "äÖ"));
        assert!(equal("Ⱥ", "ⱥ"));
        assert!(equal("😀x", "😀X"));
    }

    #[test]
    fn beginnings_and_ends() {
        let folded = Folded::new("aß".as_bytes());
        assert!(folded.is_prefix_of("ASSx".as_bytes()));
        assert!(folded.is_prefix_of("aß".as_bytes()));
        assert!(!folded.is_prefix_of("As".as_bytes()));
        assert!(folded.is_suffix_of("xASS".as_bytes()));
        assert!(folded.is_suffix_of("xAß".as_bytes()));
        assert!(!folded.is_suffix_of("ss".as_bytes()));
        assert!(Folded::new(b"").is_suffix_of(b"x"));
    }

    #[test]
    fn no_way_to_write_a_character_begins_or_ends_with_the_other() {
        for character in (0..=0xffff).filter_map(char::from_u32) {
            let Cases { lower, upper } = Cases::of(character);
            if lower != upper {
                let nested =
                    |one: &[u8], other: &[u8]| one.starts_with(other) || one.ends_with(other);
                assert!(!nested(&lower, &upper), "{character}");
                assert!(!nested(&upper, &lower), "{character}");
            }
        }
    }
}
