//! Who is let in, and to what.

use super::*;

use crate::config::Deployment;
use crate::relay::address::in_network;

const NEAR: [u8; 4] = [192, 168, 1, 7];
const FAR: [u8; 4] = [198, 51, 100, 7];

fn user(name: &str, password: &str, rights: &[Right], cameras: &[&str]) -> User {
    User {
        name: name.into(),
        password: password::hash(password).expect("it is hashed"),
        rights: rights.to_vec(),
        cameras: cameras.iter().map(|glob| (*glob).into()).collect(),
    }
}

fn users() -> Users {
    let users = [
        user("ann", "red", &[Right::View], &["door*", "lab/*"]),
        user("bob", "blue", &[Right::Admin], &["*"]),
        user("cam", "green", &[Right::Publish], &["yard"]),
    ];
    Users::new(None, &users).expect("there is randomness")
}

fn login<'a>(name: &'a str, password: &'a str) -> Option<Login<'a>> {
    Some(Login { name, password })
}

#[test]
fn without_users_the_own_network_views_everything() {
    for (audience, far) in [
        (None, Err(Denied::Address)),
        (Some(Audience::Lan), Err(Denied::Lan)),
        (Some(Audience::Anyone), Ok(None)),
    ] {
        let users = Users::new(audience, &[]).expect("there is randomness");
        let name = |visitor: Visitor| visitor.name().map(str::to_owned);
        assert_eq!(users.admit(FAR.into(), None).map(name), far);
        // The addresses that a relay prints for people are its machine's own.
        assert!(in_network().is_none_or(|own| users.admit(own, None).is_ok()));
        let visitor = users.admit(NEAR.into(), None).expect("it is near");
        assert!(visitor.may(Right::View, "door") && visitor.may_any(Right::View));
        for right in [Right::Publish, Right::Admin] {
            assert!(!visitor.may(right, "door") && !visitor.may_any(right));
        }
        let mapped = "::ffff:192.168.1.7".parse().expect("an address");
        assert!(users.admit(mapped, None).is_ok());
    }
}

#[test]
fn who_cannot_log_in_watches_where_nobody_has_to() {
    let strangers = |audience, users: &[User]| {
        let users = Users::new(audience, users).expect("there is randomness");
        users.strangers()
    };
    assert_eq!(strangers(None, &[]), Accept::Lan);
    assert_eq!(strangers(Some(Audience::Lan), &[]), Accept::Lan);
    assert_eq!(strangers(Some(Audience::Anyone), &[]), Accept::Anyone);
    let ann = [user("ann", "red", &[Right::View], &["*"])];
    assert_eq!(strangers(None, &ann), Accept::Known);
    assert_eq!(strangers(Some(Audience::Anyone), &ann), Accept::Known);
}

#[test]
fn users_have_to_log_in_from_wherever() {
    let users = users();
    for address in [NEAR, FAR] {
        let deny = |login| users.admit(address.into(), login).map(|_| ()).unwrap_err();
        assert_eq!(deny(None), Denied::Unknown);
        assert_eq!(deny(login("ann", "blue")), Denied::Unknown);
        assert_eq!(deny(login("dan", "red")), Denied::Unknown);
        assert_eq!(deny(login("", "")), Denied::Unknown);
        for _ in 0..2 {
            let visitor = users.admit(address.into(), login("ann", "red"));
            assert_eq!(visitor.expect("she is known").name(), Some("ann"));
            assert_eq!(deny(login("ann", "blue")), Denied::Unknown);
        }
    }
    let near = Users::new(Some(Audience::Lan), &[user("ann", "red", &[], &[])]);
    let near = near.expect("there is randomness");
    let denied = near.admit(FAR.into(), login("ann", "red")).map(|_| ());
    assert_eq!(denied, Err(Denied::Lan));
}

/// `pipelines/relay.toml` with a user as the README has one, and with `change` done to it.
fn copied(change: impl Fn(&str) -> String) -> Users {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/relay.toml");
    let text = std::fs::read_to_string(path).expect("it is there");
    let ann = format!(
        "[[user]]\nname = \"ann\"\npassword = \"{}\"\nrights = [\"view\"]\n",
        password::hash("red").expect("it is hashed")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, change(&text) + &ann).expect("a file");
    let deployment = Deployment::load(&file).expect("it is right");
    let relay = deployment.relay.expect("it has one");
    Users::new(relay.access, &deployment.users).expect("there is randomness")
}

#[test]
fn users_added_to_the_copied_deployment_log_in_from_anywhere() {
    let admit = |users: &Users, login| users.admit(FAR.into(), login).map(|_| ());
    let users = copied(str::to_owned);
    assert_eq!(admit(&users, login("ann", "red")), Ok(()));
    assert_eq!(admit(&users, None), Err(Denied::Unknown));

    // Who takes up what stands there is told which line keeps users out.
    let users = copied(|text| text.replace("#access = \"lan\"", "access = \"lan\""));
    let denied = admit(&users, login("ann", "red")).expect_err("she is far");
    let said = denied.to_string();
    assert!(
        said.starts_with("access = \"lan\" in [relay] keeps out"),
        "{said}"
    );
    assert!(users.admit(NEAR.into(), login("ann", "red")).is_ok());
}

#[test]
fn rights_are_for_the_cameras_that_are_named() {
    let users = users();
    let visitor = |name, password| {
        let visitor = users.admit(FAR.into(), login(name, password));
        visitor.expect("a user")
    };
    let (ann, bob, cam) = (
        visitor("ann", "red"),
        visitor("bob", "blue"),
        visitor("cam", "green"),
    );
    let rights = [Right::View, Right::Publish, Right::Admin];
    let may = |who: &Visitor, camera| rights.map(|right| who.may(right, camera));
    assert_eq!(may(&ann, "door2"), [true, false, false]);
    assert_eq!(may(&ann, "lab/bench"), [true, false, false]);
    assert_eq!(may(&ann, "yard"), [false; 3]);
    assert_eq!(may(&bob, "yard"), [true; 3]);
    assert_eq!(may(&cam, "yard"), [false, true, false]);
    assert_eq!(may(&cam, "door"), [false; 3]);
    assert_eq!(rights.map(|right| ann.may_any(right)), [true, false, false]);
}

#[test]
fn guessing_ends_after_some_wrong_passwords() {
    let users = users();
    let admit = |address: [u8; 4], name, password| {
        users
            .admit(address.into(), login(name, password))
            .map(|_| ())
    };
    assert_eq!(admit(FAR, "bob", "blue"), Ok(()));
    for _ in 0..attempts::MAX_FAILURES {
        assert_eq!(admit(FAR, "bob", "wrong"), Err(Denied::Unknown));
    }
    assert_eq!(
        admit(FAR, "bob", "blue"),
        Err(Denied::Busy),
        "even the right one"
    );
    assert_eq!(admit(NEAR, "bob", "blue"), Ok(()), "from elsewhere");
    assert_eq!(admit(FAR, "ann", "red"), Ok(()), "another user");
}

#[test]
fn checks_at_once_are_bounded() {
    let users = users();
    let places: Vec<_> = (0..MAX_WAITING)
        .map(|_| Place::take(&users.waiting).expect("there is room"))
        .collect();
    let admit = || users.admit(FAR.into(), login("ann", "red")).map(|_| ());
    assert_eq!(admit(), Err(Denied::Busy));
    drop(places);
    assert_eq!(admit(), Ok(()));
    assert_eq!(users.waiting.load(Ordering::Relaxed), 0);
}
