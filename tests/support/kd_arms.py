"""The arms of KD and DAE as stages: a base, random dialogues and the same-size teacher where a test names no other."""

from zephyr_lab.lab.kd_dae import stages
from zephyr_lab.lab.zephyr_stages import Model, base


def sft(profile, seed=0, **given):
    return stages.sft(profile, seed, **{"start": base(profile), "data": stages.random_dialogues(profile, seed)} | given)


def kd(profile, seed=0, *, make=stages.kd, **given):
    parts = {"start": base(profile), "data": stages.random_dialogues(profile, seed), "teacher": teacher(profile)}
    return make(profile, seed, **parts | given)


def scale_kd(profile, seed=0, **given):
    parts = {"data": stages.scale_dialogues(profile, seed), "teacher": Model(stages.larger_teacher(profile))}
    return kd(profile, seed, make=stages.scale_kd, **parts | given)


def own_answers(profile, seed=0):
    data = stages.random_dialogues(profile, seed)
    return stages.own_answers(profile, seed, teacher=teacher(profile), data=data)


def merged(profile, seed=0, **changes):
    return stages.merged(profile, seed, first=base(profile), second=base(profile), **changes)


def dae(profile, seed=0, **given):
    parts = {"start": base(profile), "expert": Model(stages.domain_expert(profile))}
    return stages.dae(profile, seed, data=stages.mixed_dialogues(profile, seed), **parts | given)


def tuned(profile, seed=0, **given):
    data = stages.mixed_dialogues(profile, seed)
    return stages.tuned(profile, seed, **{"start": base(profile), "data": data} | given)


def upcycled(profile, seed=0):
    return stages.upcycled(profile, seed, start=base(profile))


def teacher(profile):
    return Model(stages.same_size_teacher(profile))
