//! Whether goroutines that were proven to wait for ever are still alive for the kernel's live table: the second witness, beside
//! the process's own memory, of whether a proof came true.
//!
//! An entry leaves the table when a probe sees the end of its task. A goroutine that was never met there says nothing: the
//! table may be full, or the process not probed.

use rustc_hash::FxHashMap;

/// Proven goroutines of a process, and what the live table says of them.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// By address.
    proven: FxHashMap<u64, Witness>,
    /// Numbers of those that ended.
    ended: Vec<u64>,
    /// How often the table was read.
    readings: u64,
}

#[derive(Clone, Copy, Debug)]
struct Witness {
    id: u64,
    /// The last reading of the table in which it was met; 0: none.
    met: u64,
    /// Its birth as the table has it.
    born_ns: Option<u64>,
}

impl Witnesses {
    /// These are proven, by address and number.
    pub(super) fn set(&mut self, proven: Vec<(u64, u64)>) {
        let before = std::mem::take(&mut self.proven);
        let known = |address: u64, id: u64| before.get(&address).copied().filter(|witness| witness.id == id);
        let witness =
            |(address, id)| (address, known(address, id).unwrap_or(Witness { id, met: 0, born_ns: None }));
        self.proven = proven.into_iter().map(witness).collect();
    }

    /// The table is another one from here on: births may stand there otherwise, and who is not there has not ended.
    pub(super) fn begin_anew(&mut self) {
        let proven = std::mem::take(&mut self.proven);
        let anew = |witness| Witness { met: 0, born_ns: None, ..witness };
        self.proven = proven.into_iter().map(|(address, witness)| (address, anew(witness))).collect();
    }

    /// The table is read from here on.
    pub(super) fn begin(&mut self) {
        self.readings += 1;
    }

    /// The table has a task.
    pub(super) fn meet(&mut self, address: u64, born_ns: Option<u64>) {
        let Some(witness) = self.proven.get_mut(&address) else { return };
        if witness.met > 0 && witness.born_ns != born_ns {
            // Its address belongs to another one.
            self.ended.push(witness.id);
            self.proven.remove(&address);
            return;
        }
        (witness.met, witness.born_ns) = (self.readings, born_ns);
    }

    /// The table was read to its end.
    pub(super) fn close(&mut self) {
        let (ended, readings) = (&mut self.ended, self.readings);
        self.proven.retain(|_, witness| {
            let gone = witness.met > 0 && witness.met != readings;
            if gone {
                ended.push(witness.id);
            }
            !gone
        });
    }

    /// Takes the numbers of those that ended.
    pub(super) fn take_ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];

    #[test]
    fn who_leaves_the_table_has_ended() {
        let mut witnesses = Witnesses::default();
        let read = |witnesses: &mut Witnesses, table: &[(u64, Option<u64>)]| {
            witnesses.begin();
            for &(address, born) in table {
                witnesses.meet(address, born);
            }
            witnesses.close();
            witnesses.take_ended()
        };
        witnesses.set(vec![(0x10, 1), (0x20, 2), (0x30, 3)]);
        assert_eq!(read(&mut witnesses, &[(0x10, None), (0x20, Some(5)), (0x99, None)]), NOBODY);
        // 3 was never met. More are proven; what is known of the others stays.
        witnesses.set(vec![(0x10, 1), (0x20, 2), (0x30, 3), (0x40, 4)]);
        assert_eq!(read(&mut witnesses, &[(0x20, Some(6)), (0x40, None)]), [2, 1]);
        assert_eq!(read(&mut witnesses, &[(0x40, None)]), NOBODY);
        assert_eq!(read(&mut witnesses, &[]), [4]);
        // Probes were taken off and placed again: of whom they saw the birth, the table knows nothing now, or not even him.
        witnesses.set(vec![(0x40, 4), (0x50, 5), (0x60, 6)]);
        assert_eq!(read(&mut witnesses, &[(0x40, Some(7)), (0x50, None), (0x60, None)]), NOBODY);
        witnesses.begin_anew();
        assert_eq!(read(&mut witnesses, &[(0x40, None), (0x60, None)]), NOBODY);
        assert_eq!(read(&mut witnesses, &[(0x60, None)]), [4]);
        assert_eq!(read(&mut witnesses, &[]), [6]);
    }
}
