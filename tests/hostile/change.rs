//! Changes of one answer, at each of its bytes: whatever stands there (a correlation id, an error code, a count, a
//! length, a text, a flag, a record), it comes to be everything that its kind finds hard.

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Other bytes in the place of those that stand there.
    Write(usize, &'static [u8]),
    /// One bit of a byte.
    Flip(usize, u8),
    /// One byte more.
    Insert(usize),
    /// One byte less.
    Remove(usize),
    /// The end, here.
    Cut(usize),
}

/// The extremes of a byte, of 16, 32 and 64 bits, and of a varint of 32.
const HARD: [&[u8]; 11] = [
    &[0x00],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
];

/// All changes of an answer of that length.
pub(crate) fn changes(length: usize) -> impl Iterator<Item = Change> {
    (0..length).flat_map(|at| {
        let written = HARD.into_iter().map(move |bytes| Change::Write(at, bytes));
        let others = [
            Change::Flip(at, 0x01),
            Change::Flip(at, 0x80),
            Change::Insert(at),
            Change::Remove(at),
            Change::Cut(at),
        ];
        written.chain(others)
    })
}

impl Change {
    pub(crate) fn apply(self, answer: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let places = answer.iter_mut().skip(at);
                places.zip(bytes).for_each(|(place, byte)| *place = *byte);
            }
            Self::Flip(at, bit) => answer[at] ^= bit,
            Self::Insert(at) => answer.insert(at, 0xff),
            Self::Remove(at) => drop(answer.remove(at)),
            Self::Cut(at) => answer.truncate(at),
        }
    }
}
