"""Rows of special values: infinities, NaN, numbers that overflow, masks, options."""

from __future__ import annotations

from .tables import INF, NAN, Row

N3 = (NAN, NAN, NAN)
ZERO3 = (0.0, 0.0, 0.0)
THIRD = (1 / 3, 1 / 3, 1 / 3)
GONE = (1.0, -INF, 2.0)  # the second class is impossible
P = (0.2689414213699951, 0.0, 0.7310585786300049)
LOG_P = (-1.3132616875182228, -INF, -0.3132616875182228)
LSE = 2.3132616875182228
HUGE = (3e38, 3e38, 0.0)
FAR = (3e38, -3e38, 0.0)
DENORMAL = (1e-40, -1e-40, 0.0)
LOG2, LOG3 = 0.6931471805599453, 1.0986122886681098
NONE3, SECOND = (False,) * 3, (True, False, True)

INFINITIES = [
    Row(1, "softmax", GONE, P, P),
    Row(1, "log_softmax", GONE, LOG_P, P),
    Row(1, "logsumexp", GONE, LSE, P),
    Row(1, "CE", GONE, -LOG_P[0], P, 0),
    Row(1, "CE", GONE, -LOG_P[2], P, 2),
    Row(1, "soft CE", GONE, 0.8132616875182228, P, (0.5, 0.0, 0.5)),
    Row(2, "CE", GONE, INF, P, 1, note="true: the label is impossible"),
    Row(3, "softmax", (-INF,) * 3, N3, N3, note="no distribution exists; `where` says ignore"),
    Row(3, "log_softmax", (-INF,) * 3, N3, N3),
    Row(3, "logsumexp", (-INF,) * 3, -INF, N3),
    Row(3, "CE", (-INF,) * 3, NAN, N3, 0),
    Row(3, "soft CE", (-INF,) * 3, NAN, N3, (0.5, 0.5, 0.0)),
    Row(5, "softmax", (0.0, INF, 1.0), N3, N3),
    Row(5, "log_softmax", (0.0, INF, 1.0), N3, N3),
    Row(5, "logsumexp", (0.0, INF, 1.0), INF, N3),
    *(Row(5, "CE", (0.0, INF, 1.0), NAN, N3, label) for label in range(3)),
    Row(5, "soft CE", (0.0, INF, 1.0), NAN, N3, (0.0, 1.0, 0.0)),
    Row(6, "softmax", (INF, INF, 0.0), N3, N3),
    Row(6, "log_softmax", (INF, INF, 0.0), N3, N3),
    Row(6, "logsumexp", (INF, INF, 0.0), INF, N3),
    Row(6, "CE", (INF, INF, 0.0), NAN, N3, 2),
    *(Row(7, op, (0.0, NAN, 1.0), N3, N3) for op in ("softmax", "log_softmax")),
    Row(7, "logsumexp", (0.0, NAN, 1.0), NAN, N3),
    Row(7, "CE", (0.0, NAN, 1.0), NAN, N3, 2),
    Row(7, "soft CE", (0.0, NAN, 1.0), NAN, N3, (1.0, 0.0, 0.0)),
    Row(7, "soft CE", (0.0, NAN, 1.0), NAN, N3, ZERO3),
    Row(8, "softmax", FAR, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)),
    Row(8, "log_softmax", FAR, (0.0, -INF, -3e38), (1.0, 0.0, 0.0), note="6e38 overflows"),
    Row(8, "logsumexp", FAR, 3e38, (1.0, 0.0, 0.0)),
    Row(8, "CE", FAR, INF, (1.0, 0.0, 0.0), 1, note="6e38 overflows"),
    Row(8, "CE", FAR, 3e38, (1.0, 0.0, 0.0), 2),
    Row(9, "softmax", HUGE, (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)),
    Row(9, "log_softmax", HUGE, (-LOG2, -LOG2, -3e38), (0.5, 0.5, 0.0)),
    Row(9, "logsumexp", HUGE, 3e38, (0.5, 0.5, 0.0)),
    Row(9, "CE", HUGE, LOG2, (0.5, 0.5, 0.0), 0),
    Row(9, "soft CE", HUGE, LOG2, (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)),
    Row(10, "softmax", DENORMAL, THIRD, THIRD),
    Row(10, "log_softmax", DENORMAL, (-LOG3,) * 3, THIRD),
    Row(10, "logsumexp", DENORMAL, LOG3, THIRD),
    Row(10, "CE", DENORMAL, LOG3, THIRD, 1),
    Row(10, "soft CE", DENORMAL, LOG3, THIRD, (0.25, 0.25, 0.5)),
]

LABELS = [
    *(
        Row(number, "CE", (1.0, 0.0, 2.0), NAN, P, label, gradient=N3, hessian=())
        for number, labels in ((32, (3, 7, -4)), (33, (-1, -3)))
        for label in labels
    ),
    Row(39, "soft CE", GONE, 1.2198925312773342, P, (0.75, 0.0, 0.75)),
    Row(39, "soft CE", GONE, 0.0, P, ZERO3),
    Row(40, "soft CE", GONE, -LOG_P[2], P, (0.0, 0.0, 1.0)),
    Row(41, "soft CE", GONE, INF, P, (0.5, 0.5, 0.0)),
    Row(44, "soft CE", (0.0, 0.0, 0.0), LOG3, THIRD, (-0.5, 1.0, 0.5)),
    Row(44, "soft CE", (0.0, 0.0, 0.0), NAN, THIRD, (NAN, 1.0, 0.5), gradient=N3, hessian=()),
]

MASKS = [
    *(
        Row(4, op, (1.0, NAN, 2.0), value, ZERO3, where=NONE3)
        for op, value in (("softmax", ZERO3), ("log_softmax", (-INF,) * 3), ("logsumexp", -INF))
    ),
    Row(4, "CE", (1.0, 3.0, 2.0), 0.0, ZERO3, 0, where=NONE3, gradient=ZERO3),
    Row(4, "soft CE", (1.0, 3.0, 2.0), 0.0, ZERO3, (0.5, 0.5, 0.0), where=NONE3, gradient=ZERO3),
    *(
        row
        for under in (NAN, INF, -INF, 1e30)
        for row in (
            Row(48, "softmax", (1.0, under, 2.0), P, P, where=SECOND),
            Row(48, "log_softmax", (1.0, under, 2.0), LOG_P, P, where=SECOND),
            Row(48, "logsumexp", (1.0, under, 2.0), LSE, P, where=SECOND),
            Row(48, "CE", (1.0, under, 2.0), -LOG_P[0], P, 0, where=SECOND),
            Row(
                48,
                "soft CE",
                (1.0, under, 2.0),
                0.8132616875182228,
                P,
                (0.5, 0.0, 0.5),
                where=SECOND,
            ),
            Row(
                50,
                "CE",
                (1.0, under, 2.0),
                INF,
                P,
                1,
                where=SECOND,
                gradient=(P[0], 0.0, P[2]),
                note="an impossible class",
            ),
        )
    ),
]

SMOOTH, CAP = (("label_smoothing", 0.1),), (("logit_softcap", 30.0),)
Z = (("z_loss", 0.5),)
IGNORE = (("ignore_index", -100), ("label_smoothing", 0.1))
OPTIONS = [
    Row(
        42, "CE", (1.0, 9.0, 2.0), 1.2632616875182228, P, 0, where=SECOND, options=SMOOTH,
        gradient=(P[0] - 0.95, 0.0, P[2] - 0.05),
    ),
    Row(
        42, "soft CE", (1.0, 9.0, 2.0), 1.2632616875182228, P, (1.0, 0.0, 0.0), where=SECOND,
        options=SMOOTH, gradient=(P[0] - 0.95, 0.0, P[2] - 0.05),
    ),
    Row(
        42, "CE", GONE, INF, P, 0, options=SMOOTH,
        gradient=(P[0] - 0.9 - 0.1 / 3, -0.1 / 3, P[2] - 0.1 / 3),
        note="true: smoothing asks for the impossible class; say `where`",
    ),
    *(
        Row(43, "CE", x, 0.0, p, -100, options=IGNORE, gradient=ZERO3, hessian=(ZERO3,) * 3)
        for x, p in (((1.0, 0.0, 2.0), P), ((NAN, 0.0, INF), N3))
    ),
    Row(59, "CE", (15.0, -INF, 15.0), LOG2, (0.5, 0.0, 0.5), 0, options=CAP, note="no leak",
        gradient=(-0.39322386648296376, 0.0, 0.39322386648296376),
        hessian=((0.16673928, 0.0, -0.15462500), ZERO3, (-0.15462500, 0.0, 0.14251073))),
    Row(60, "CE", (1.0, NAN, 2.0), 0.0, ZERO3, 0, where=NONE3, options=Z, gradient=ZERO3),
    Row(60, "CE", (1e30, 0.0, 0.0), INF, (1.0, 0.0, 0.0), 0, options=Z,
        gradient=(1e30, 0.0, 0.0), hessian=((1.0, 0.0, 0.0), ZERO3, ZERO3), note="it overflows"),
]  # fmt: skip

ROWS: list[Row] = [*INFINITIES, *LABELS, *MASKS, *OPTIONS]
