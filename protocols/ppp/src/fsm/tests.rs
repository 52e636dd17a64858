use super::*;

/// RFC 1661 §4.1, both halves side by side, without the footnotes r, p and x.
const TABLE: &str = "
Up   2      irc,scr/6 -         -               -     -     -           -         -         -
Down -      -         0         tls/1           0     1     1           1         1         tld/1
Open tls/1  1         irc,scr/6 3               5     5     6           7         8         9
Cls  0      tlf/0     2         2               4     4     irc,str/4   irc,str/4 irc,str/4 tld,irc,str/4
TO+  -      -         -         -               str/4 str/5 scr/6       scr/6     scr/8     -
TO-  -      -         -         -               tlf/2 tlf/3 tlf/3       tlf/3     tlf/3     -
RCR+ -      -         sta/2     irc,scr,sca/8   4     5     sca/8       sca,tlu/9 sca/8     tld,scr,sca/8
RCR- -      -         sta/2     irc,scr,scn/6   4     5     scn/6       scn/7     scn/6     tld,scr,scn/6
RCA  -      -         sta/2     sta/3           4     5     irc/7       scr/6     irc,tlu/9 tld,scr/6
RCN  -      -         sta/2     sta/3           4     5     irc,scr/6   scr/6     irc,scr/8 tld,scr/6
RTR  -      -         sta/2     sta/3           sta/4 sta/5 sta/6       sta/6     sta/6     tld,zrc,sta/5
RTA  -      -         2         3               tlf/2 tlf/3 6           6         8         tld,scr/6
RUC  -      -         scj/2     scj/3           scj/4 scj/5 scj/6       scj/7     scj/8     scj/9
RXJ+ -      -         2         3               4     5     6           6         8         9
RXJ- -      -         tlf/2     tlf/3           tlf/2 tlf/3 tlf/3       tlf/3     tlf/3     tld,irc,str/5
RXR  -      -         2         3               4     5     6           7         8         ser/9
";

const STATES: [State; 10] = [
    S::Initial,
    S::Starting,
    S::Closed,
    S::Stopped,
    S::Closing,
    S::Stopping,
    S::ReqSent,
    S::AckRcvd,
    S::AckSent,
    S::Opened,
];

fn event(name: &str) -> Event {
    match name {
        "Up" => E::Up,
        "Down" => E::Down,
        "Open" => E::Open,
        "Cls" => E::Close,
        "TO+" => E::TimeoutRetry,
        "TO-" => E::TimeoutFinal,
        "RCR+" => E::RequestGood,
        "RCR-" => E::RequestBad,
        "RCA" => E::AckReceived,
        "RCN" => E::NakReceived,
        "RTR" => E::TerminateRequest,
        "RTA" => E::TerminateAck,
        "RUC" => E::UnknownCode,
        "RXJ+" => E::RejectHarmless,
        "RXJ-" => E::RejectFatal,
        "RXR" => E::Extended,
        other => panic!("no event {other}"),
    }
}

fn act(name: &str) -> Act {
    match name {
        "tlu" => A::LayerUp,
        "tld" => A::LayerDown,
        "tls" => A::LayerStarted,
        "tlf" => A::LayerFinished,
        "irc" => A::InitCounter,
        "zrc" => A::ZeroCounter,
        "scr" => A::SendRequest,
        "sca" => A::SendAck,
        "scn" => A::SendNak,
        "str" => A::SendTerminate,
        "sta" => A::SendTerminateAck,
        "scj" => A::SendCodeReject,
        "ser" => A::Extended,
        other => panic!("no action {other}"),
    }
}

#[test]
fn every_cell_is_that_of_the_rfc() {
    let mut cells = 0;
    for row in TABLE.lines().filter(|line| !line.is_empty()) {
        let mut columns = row.split_whitespace();
        let name = columns.next().unwrap();
        for (state, cell) in STATES.into_iter().zip(columns.by_ref()) {
            let (next, acts) = match cell.rsplit_once('/') {
                _ if cell == "-" => (state, vec![]),
                None => (STATES[cell.parse::<usize>().unwrap()], vec![]),
                Some((acts, next)) => {
                    (STATES[next.parse::<usize>().unwrap()], acts.split(',').map(act).collect())
                }
            };
            let got = transition(state, event(name));
            assert_eq!(got, (next, acts.as_slice()), "{name} in {state:?}");
            cells += 1;
        }
        assert_eq!(columns.next(), None, "row {name} is too long");
    }
    assert_eq!(cells, 160);
}

#[test]
fn the_restart_timer_runs_in_the_states_of_section_4_2() {
    let timed: Vec<State> = STATES.into_iter().filter(|s| s.is_timed()).collect();
    assert_eq!(timed, [S::Closing, S::Stopping, S::ReqSent, S::AckRcvd, S::AckSent]);
}
