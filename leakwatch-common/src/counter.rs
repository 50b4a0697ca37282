//! The one list of what the kernel side counts, per process slot.
//!
//! Ids are indices into a per-CPU array and appear in recordings: append only, never reuse.

/// A figure counted in the kernel, per watched process. Slot 0 holds what no process could be named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Tasks started since the probes were switched on.
    Started = 0,
    /// Tasks ended since then.
    Ended = 1,
    /// Of `Ended`: the task was not in the live table (it was full, or the start was not seen).
    EndWithoutStart = 2,
    /// A start on a task address that was still in the live table: an end was not seen.
    StartWithoutEnd = 3,
    /// Executions of our uprobe program in the process. The kernel side counts only those that no other counter tells
    /// of (counting was off); reading the row adds the rest.
    ProbeHits = 4,
    /// A start could not be put into the live table because that was full. Totals stay exact.
    LiveTableFull = 5,
    /// A start or end could not be counted by site because the site table was full. Totals stay exact.
    SiteTableFull = 6,
    /// An event did not fit into the ring buffer. Totals stay exact.
    RingFull = 7,
    /// `bpf_probe_read_user` failed on the task's facts: the event counts, its site is unknown (0).
    FactsUnreadable = 8,
    /// The task pointer itself could not be read: the event is lost from every figure but this.
    TaskUnreadable = 9,
    /// The cookie named no descriptor. Always a bug of ours.
    DescriptorMissing = 10,
    /// Threads created in the process.
    ThreadsStarted = 11,
    /// Threads of the process that exited.
    ThreadsEnded = 12,
    /// Child processes forked.
    Forks = 13,
    /// `execve` calls that replaced the image.
    Execs = 14,
    /// A field of a tracepoint record could not be read: the event was counted, its details are unknown.
    TracepointUnreadable = 15,
    /// Tasks from before the attach that ended while the census ran, before it had seen them: they were
    /// alive at attach, although no table ever held them.
    EndedBeforeSeen = 16,
    /// Passes of a point whose value says that there is no task (NULL from a function that failed).
    NotATask = 17,
    /// Passes of a point that only notes something for the next.
    Noted = 18,
    /// The stack on which a thread or child was made was not sent: too many in that second, or the ring was full. Its
    /// site is unknown, totals are exact.
    StacksSkipped = 19,
    /// A creation stack was sent without registers or without any stack, because they could not be read.
    StackUnreadable = 20,
    /// Child processes that ended.
    ChildrenEnded = 21,
    /// A child had no room in the table of children: what it executes and when it ends is not known.
    ChildTableFull = 22,
    /// A thread ended that was not in the live table: it was being made while the threads of before were listed.
    ThreadEndWithoutStart = 23,
    /// A thread or child was made by an interpreter whose frames could not be read: its site is where the interpreter's
    /// own code made it.
    FramesUnreadable = 24,
}

/// Number of counters: the length of one process's row.
pub const COUNTERS: usize = 25;

impl Counter {
    /// Each execution of the uprobe program that was not silent raises exactly one of these.
    pub const OF_HITS: [Self; 6] = [
        Self::Started,
        Self::Ended,
        Self::TaskUnreadable,
        Self::DescriptorMissing,
        Self::NotATask,
        Self::Noted,
    ];

    /// Every counter, in id order.
    pub const ALL: [Self; COUNTERS] = [
        Self::Started,
        Self::Ended,
        Self::EndWithoutStart,
        Self::StartWithoutEnd,
        Self::ProbeHits,
        Self::LiveTableFull,
        Self::SiteTableFull,
        Self::RingFull,
        Self::FactsUnreadable,
        Self::TaskUnreadable,
        Self::DescriptorMissing,
        Self::ThreadsStarted,
        Self::ThreadsEnded,
        Self::Forks,
        Self::Execs,
        Self::TracepointUnreadable,
        Self::EndedBeforeSeen,
        Self::NotATask,
        Self::Noted,
        Self::StacksSkipped,
        Self::StackUnreadable,
        Self::ChildrenEnded,
        Self::ChildTableFull,
        Self::ThreadEndWithoutStart,
        Self::FramesUnreadable,
    ];

    /// The name under which the figure is reported, `snake_case`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ended => "ended",
            Self::EndWithoutStart => "end_without_start",
            Self::StartWithoutEnd => "start_without_end",
            Self::ProbeHits => "probe_hits",
            Self::LiveTableFull => "live_table_full",
            Self::SiteTableFull => "site_table_full",
            Self::RingFull => "ring_full",
            Self::FactsUnreadable => "facts_unreadable",
            Self::TaskUnreadable => "task_unreadable",
            Self::DescriptorMissing => "descriptor_missing",
            Self::ThreadsStarted => "threads_started",
            Self::ThreadsEnded => "threads_ended",
            Self::Forks => "forks",
            Self::Execs => "execs",
            Self::TracepointUnreadable => "tracepoint_unreadable",
            Self::EndedBeforeSeen => "ended_before_seen",
            Self::NotATask => "not_a_task",
            Self::Noted => "noted",
            Self::StacksSkipped => "stacks_skipped",
            Self::StackUnreadable => "stack_unreadable",
            Self::ChildrenEnded => "children_ended",
            Self::ChildTableFull => "child_table_full",
            Self::ThreadEndWithoutStart => "thread_end_without_start",
            Self::FramesUnreadable => "frames_unreadable",
        }
    }
}
