//! A proof with names, grouped by where goroutines wait and what made them, and in words why nothing can wake them.

use rustc_hash::FxHashMap;

use super::dump::{Dump, Frame, Origin, RuntimeDump, Task};
pub use crate::observe::{Proof, ProvenObject, ProvenTask, WaitKind};

/// A proof of one process.
#[derive(Clone, Debug)]
pub struct ProofReport {
    /// The process, and its proven goroutines with their stacks; each of them has the mark `leaked`.
    pub dump: Dump,
    /// How it was proven.
    pub proof: Proof,
    /// Proven goroutines that wait at the same place and come from the same site, the largest group first.
    pub groups: Vec<Group>,
}

/// Proven goroutines with one stack, one state and one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What they wait for, in the runtime's words.
    pub state: String,
    /// Where they come from.
    pub origin: Option<Origin>,
    /// Frames, innermost first, as the runtime's tracebacks show them.
    pub stack: Vec<Frame>,
    /// Their numbers.
    pub ids: Vec<u64>,
    /// The longest wait that the runtime noted, ns.
    pub longest_ns: Option<u64>,
    /// Bytes of their stacks.
    pub bytes: u64,
    /// What they wait on, places in [`Proof::objects`].
    pub objects: Vec<u32>,
    /// Why nothing can wake them, one sentence.
    pub why: String,
}

impl ProofReport {
    /// Puts a proof and a dump of the same process together. The runtime's own goroutines are left out.
    pub fn of(mut dump: Dump, mut proof: Proof) -> Self {
        let proven: FxHashMap<u64, &ProvenTask> = proof.proven.iter().map(|task| (task.id, task)).collect();
        for runtime in &mut dump.runtimes {
            runtime.tasks.retain(|task| !task.system && proven.contains_key(&task.id));
            runtime.tasks.iter_mut().for_each(|task| task.marks.leaked = true);
        }
        let mut groups = Vec::new();
        for runtime in &dump.runtimes {
            let mut indices = FxHashMap::default();
            for task in &runtime.tasks {
                let Some(proven) = proven.get(&task.id) else { continue };
                let index =
                    *indices.entry((task.site, task.state, task.stack_index())).or_insert_with(|| {
                        groups.push(Group::new(runtime, task));
                        groups.len() - 1
                    });
                if let Some(group) = groups.get_mut(index) {
                    group.add(task, proven);
                }
            }
        }
        let named: rustc_hash::FxHashSet<u64> =
            dump.runtimes.iter().flat_map(|runtime| &runtime.tasks).map(|task| task.id).collect();
        proof.proven.retain(|task| named.contains(&task.id));
        for group in &mut groups {
            group.objects.sort_unstable();
            group.objects.dedup();
            group.why = why(group, &proof.objects);
        }
        groups.sort_by(|a, b| b.ids.len().cmp(&a.ids.len()).then_with(|| a.ids.cmp(&b.ids)));
        Self { dump, proof, groups }
    }
}

impl Group {
    fn new(runtime: &RuntimeDump, task: &Task) -> Self {
        let stack = runtime.stack_of(task).map_or_else(Vec::new, |stack| {
            let shown = stack.lines.iter().filter(|line| line.shown);
            shown.filter_map(|line| runtime.frame(line).cloned()).collect()
        });
        Self {
            state: runtime.state_of(task).to_owned(),
            origin: runtime.origin_of(task).cloned(),
            stack,
            ids: Vec::new(),
            longest_ns: None,
            bytes: 0,
            objects: Vec::new(),
            why: String::new(),
        }
    }

    fn add(&mut self, task: &Task, proven: &ProvenTask) {
        self.ids.push(task.id);
        self.longest_ns = self.longest_ns.max(task.waited_ns);
        self.bytes = self.bytes.saturating_add(task.bytes.unwrap_or(0));
        self.objects.extend(&proven.objects);
    }
}

/// What an object is, for people.
pub fn kind(object: &ProvenObject) -> &'static str {
    match object.kind {
        WaitKind::Receive | WaitKind::Send | WaitKind::Select | WaitKind::Forever => "channel",
        WaitKind::Mutex => "sync.Mutex",
        WaitKind::RwMutex => "sync.RWMutex",
        WaitKind::WaitGroup => "sync.WaitGroup",
        WaitKind::Cond => "sync.Cond",
        WaitKind::Semaphore => "semaphore",
    }
}

/// `sync.Mutex 0xc000012340`, `channel 0xc000012340 (capacity 4, 4 in it)`
pub fn describe(object: &ProvenObject) -> String {
    let address = object.address;
    let of_channel = match object.channel {
        None => String::new(),
        Some((_, _, true)) => " (closed)".to_owned(),
        Some((_, 0, false)) => " (unbuffered)".to_owned(),
        Some((length, capacity, false)) => format!(" (buffer of {capacity}, {length} in it)"),
    };
    format!("{} {address:#x}{of_channel}", kind(object))
}

/// Why nothing can wake a group.
fn why(group: &Group, all: &[ProvenObject]) -> String {
    let objects: Vec<&ProvenObject> = group.objects.iter().filter_map(|&at| all.get(at as usize)).collect();
    let several = group.ids.len() > 1;
    let Some(first) = objects.first() else {
        return format!("nothing can ever end a wait of this kind ({})", group.state);
    };
    let exact = objects.iter().all(|object| object.all_holders);
    let most = objects.iter().map(|object| object.holders.max(object.waiting)).max().unwrap_or(1);
    let held = match (most, exact) {
        (0 | 1, true) if several && objects.len() > 1 => {
            "each is held only by the goroutine that waits for it".to_owned()
        }
        (0 | 1, true) => "it is held only by the goroutine itself".to_owned(),
        (most, true) if objects.len() > 1 => {
            format!("each is held only by goroutines that are themselves stuck, {most} at most")
        }
        (most, true) => format!("it is held only by {most} goroutines that are themselves stuck"),
        (_, false) if objects.len() > 1 => {
            "each is held only by goroutines that are themselves stuck".to_owned()
        }
        (_, false) => "it is held only by goroutines that are themselves stuck".to_owned(),
    };
    if let [only] = objects.as_slice() {
        return format!("nothing that runs or can run again reaches the {}: {held}", describe(only));
    }
    let same = objects.iter().all(|object| kind(object) == kind(first));
    let noun = if same { kind(first) } else { "object" };
    let plural = if noun.ends_with('x') { "es" } else { "s" };
    format!("nothing that runs or can run again reaches any of the {} {noun}{plural}: {held}", objects.len())
}
