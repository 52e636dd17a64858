/// Makes new inputs out of a corpus. One seed decides everything.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

/// Longest input that is made, in octets.
const OCTETS_MAX: usize = 4096;
/// Octets and lengths at which decoders change their mind.
const EDGES: [u8; 8] = [0x00, 0x01, 0x02, 0x04, 0x7f, 0x80, 0xfe, 0xff];

impl Mutator {
    /// A mutator; zero is not a state of the generator and counts as one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed.max(1) }
    }

    /// xorshift64*: Marsaglia 2003, Vigna 2016.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, or 0 when there is none.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }

    fn octet(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// An input from one or two of `corpus`, with a few changes.
    pub fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut input, corpus);
        }
        input.truncate(OCTETS_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(9) {
            0 => self.set(input, at, |mutator, _| mutator.octet()),
            1 => self.set(input, at, |mutator, octet| octet ^ 1 << mutator.below(8)),
            2 => self.set(input, at, |mutator, _| EDGES[mutator.below(EDGES.len())]),
            3 => self.set(input, at, |mutator, octet| {
                if mutator.below(2) == 0 { octet.wrapping_add(1) } else { octet.wrapping_sub(1) }
            }),
            4 => input.truncate(at),
            5 => {
                let end = input.len().min(at + 1 + self.below(16));
                input.drain(at..end);
            }
            6 => {
                let extra: Vec<u8> = (0..=self.below(16)).map(|_| self.octet()).collect();
                input.splice(at..at, extra);
            }
            7 => {
                let end = input.len().min(at + 1 + self.below(64));
                let copy = input[at..end].to_vec();
                let to = self.below(input.len());
                input.splice(to..to, copy);
            }
            _ => {
                let other = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }

    fn set(&mut self, input: &mut [u8], at: usize, change: impl Fn(&mut Self, u8) -> u8) {
        if let Some(octet) = input.get_mut(at) {
            *octet = change(self, *octet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_sequence_and_never_leaves_the_bounds() {
        let corpus = vec![vec![], vec![1], vec![7; 300], vec![9; OCTETS_MAX * 2]];
        let run = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..500).map(|_| mutator.input(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        assert!(run(0).iter().all(|input| input.len() <= OCTETS_MAX));
        assert!(Mutator::new(1).input(&[]).len() <= OCTETS_MAX);
    }
}
