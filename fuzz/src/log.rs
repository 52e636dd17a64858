use raft_store::{Command, Entry, Reply};

pub(crate) fn entry(data: &[u8]) {
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
}

pub(crate) fn command(data: &[u8]) {
    if let Ok(command) = Command::decode(data) {
        assert!(!command.label().is_empty());
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

pub(crate) fn reply(data: &[u8]) {
    if let Ok(reply) = Reply::decode(data) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}
