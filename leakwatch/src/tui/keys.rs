//! Keys and the mouse: what each does to the state, and what it asks of whoever runs the screen.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::{
    columns::Column,
    listing::Sort,
    state::{LONGEST_FILTER, Overlay, Page, State},
};

/// Rows that a turn of the wheel moves.
const WHEEL: isize = 3;

/// What a key asks for that the state cannot do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End the watch.
    Quit,
    /// Stop as a job, until the shell says to go on.
    Suspend,
    /// Draw all of the screen again.
    Redraw,
    /// Save the report that is shown.
    Save,
    /// Dump this process.
    Dump(u32),
}

impl State {
    /// Takes an event. `None`: nothing is asked of anybody.
    pub fn handle(&mut self, event: &Event) -> Option<Command> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Event::Mouse(mouse) => {
                self.mouse(*mouse);
                None
            }
            _ => None,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Option<Command> {
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Command::Quit),
                KeyCode::Char('z') => Some(Command::Suspend),
                KeyCode::Char('l') => Some(Command::Redraw),
                KeyCode::Char('u') if self.typing => {
                    self.type_filter(String::clear);
                    None
                }
                _ => None,
            };
        }
        if self.typing {
            self.typed(key.code);
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Char('s') => return self.shown.is_some().then_some(Command::Save),
            KeyCode::Char('d') => return self.process().map(|process| Command::Dump(process.pid)),
            KeyCode::Char('?') | KeyCode::F(1) => self.toggle(Overlay::Help),
            KeyCode::Char('n') => self.toggle(Overlay::Notes),
            KeyCode::Char(' ') => self.pause(),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                self.back();
            }
            KeyCode::Tab => self.next_process(1),
            KeyCode::BackTab => self.next_process(-1),
            _ if self.overlay.is_some() || self.page == Page::Site => self.scroll(key.code),
            code => self.in_list(code),
        }
        None
    }

    fn toggle(&mut self, overlay: Overlay) {
        self.overlay = if self.overlay == Some(overlay) { None } else { Some(overlay) };
        self.scroll = 0;
    }

    /// A key while a filter is typed.
    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.type_filter(String::clear);
            }
            KeyCode::Backspace => self.type_filter(|filter| {
                filter.pop();
            }),
            KeyCode::Char(sign) => self.type_filter(|filter| {
                if filter.chars().count() < LONGEST_FILTER {
                    filter.push(sign);
                }
            }),
            KeyCode::Up | KeyCode::Down | KeyCode::PageUp | KeyCode::PageDown => self.in_list(code),
            _ => {}
        }
    }

    fn type_filter(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        self.arrange();
    }

    /// Rows of the list.
    fn rows(&self) -> usize {
        if self.page == Page::Processes { self.processes.len() } else { self.sites.len() }
    }

    fn cursor(&self) -> usize {
        if self.page == Page::Processes { self.processes.cursor() } else { self.sites.cursor() }
    }

    fn in_list(&mut self, code: KeyCode) {
        let page = isize::from(i16::try_from(self.areas.rows.1).unwrap_or(i16::MAX)).max(1);
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home | KeyCode::Char('g') => self.go(0),
            KeyCode::End | KeyCode::Char('G') => self.go(self.rows().saturating_sub(1)),
            KeyCode::Enter | KeyCode::Right => self.open(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('<' | ',') => self.sort_beside(-1),
            KeyCode::Char('>' | '.') => self.sort_beside(1),
            KeyCode::Char('r') => self.reverse(),
            KeyCode::Char('t') => {
                self.system = !self.system;
                self.arrange();
            }
            _ => {}
        }
    }

    fn step(&mut self, rows: isize) {
        let to = self.cursor().saturating_add_signed(rows);
        self.go(to);
    }

    /// Moves a page that is no list.
    fn scroll(&mut self, code: KeyCode) {
        let (lines, height) = self.areas.lines;
        self.scroll = match code {
            KeyCode::Up | KeyCode::Char('k') => self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll + 1,
            KeyCode::PageUp => self.scroll.saturating_sub(height),
            KeyCode::PageDown => self.scroll + height,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => lines,
            _ => self.scroll,
        }
        .min(lines.saturating_sub(height));
    }

    fn reverse(&mut self) {
        if self.page == Page::Processes {
            self.process_sort.reversed = !self.process_sort.reversed;
        } else {
            self.site_sort.reversed = !self.site_sort.reversed;
        }
        self.arrange();
    }

    /// Sorts by the column beside the one that is sorted by, of those on the screen.
    fn sort_beside(&mut self, step: isize) {
        let shown: Vec<usize> = self.areas.heads.iter().map(|(_, _, number)| *number).collect();
        if self.page == Page::Processes {
            self.process_sort = beside(self.process_sort, &shown, step);
        } else {
            self.site_sort = beside(self.site_sort, &shown, step);
        }
        self.arrange();
    }

    /// Sorts by a column; by the one that is sorted by already: the other way round.
    fn sort_by(&mut self, number: usize) {
        if self.page == Page::Processes {
            self.process_sort = by(self.process_sort, number);
        } else {
            self.site_sort = by(self.site_sort, number);
        }
        self.arrange();
    }

    fn mouse(&mut self, mouse: MouseEvent) {
        let is_list = self.overlay.is_none() && self.page != Page::Site;
        match mouse.kind {
            MouseEventKind::ScrollUp if is_list => self.step(-WHEEL),
            MouseEventKind::ScrollDown if is_list => self.step(WHEEL),
            MouseEventKind::ScrollUp => {
                self.scroll = self.scroll.saturating_sub(WHEEL.unsigned_abs());
            }
            MouseEventKind::ScrollDown => {
                let (lines, height) = self.areas.lines;
                let most = lines.saturating_sub(height);
                self.scroll = (self.scroll + WHEEL.unsigned_abs()).min(most);
            }
            MouseEventKind::Down(MouseButton::Left) if is_list => self.click(mouse.column, mouse.row),
            _ => {}
        }
    }

    fn click(&mut self, x: u16, y: u16) {
        if self.areas.heads_y == Some(y) {
            let head = self.areas.heads.iter().find(|(from, to, _)| (*from..=*to).contains(&x));
            if let Some(&(_, _, number)) = head {
                self.sort_by(number);
            }
            return;
        }
        let (first, rows) = self.areas.rows;
        let Some(row) = y.checked_sub(first).filter(|row| *row < rows) else { return };
        let row = self.areas.top + usize::from(row);
        if row >= self.rows() {
            return;
        }
        if row == self.cursor() {
            self.open();
        } else {
            self.go(row);
        }
    }
}

fn by<C: Column>(sort: Sort<C>, number: usize) -> Sort<C> {
    match C::ALL.get(number) {
        Some(&column) if column == sort.by => Sort { by: column, reversed: !sort.reversed },
        Some(&column) if column.sortable() => Sort { by: column, reversed: false },
        _ => sort,
    }
}

fn beside<C: Column>(sort: Sort<C>, shown: &[usize], step: isize) -> Sort<C> {
    let columns: Vec<C> = shown
        .iter()
        .filter_map(|number| C::ALL.get(*number))
        .copied()
        .filter(|column| column.sortable())
        .collect();
    if columns.is_empty() {
        return sort;
    }
    let here = columns.iter().position(|column| *column == sort.by).unwrap_or(0);
    let next = if step < 0 { (here + columns.len() - 1) % columns.len() } else { (here + 1) % columns.len() };
    columns.get(next).map_or(sort, |&column| Sort { by: column, reversed: false })
}
