from zephyr_lab.core.seeds import derive


def test_a_seed_is_the_same_on_every_machine():
    # sha256("(0, 'text')")[:8], the lowest bit dropped
    import hashlib

    digest = hashlib.sha256(b"(0, 'text')").hexdigest()
    assert derive(0, "text") == int(digest[:16], 16) // 2


def test_purposes_and_seeds_do_not_meet():
    purposes = [(), ("text",), ("text", 1), ("text", "1"), ("order",), ("te", "xt")]
    derived = {derive(seed, *purpose) for seed in range(20) for purpose in purposes}
    assert len(derived) == 20 * len(purposes)
    assert all(0 <= seed < 2**63 for seed in derived)
