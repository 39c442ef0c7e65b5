"""Puts sidecars into Pods: a pure decision, a pure patch, and the webhook that serves them.

What comes in: Pods that the API server is about to create. What goes out: JSON patches, or refusals
in words. ``inject`` decides and builds the patch, ``containers`` is what is added, ``ruleset`` the
redirection, ``options`` reads annotations, ``webhook`` speaks AdmissionReview.

Invariants: everything but ``webhook`` is pure; a Pod is either patched completely or not at all.
Not done here: whether policies are right (``fsm.policies``; the webhook only carries the question).
"""

from fsm.injector.inject import inject
from fsm.injector.options import InjectionSettings, Refusal
from fsm.injector.ruleset import Redirection, redirect_ruleset

__all__ = ["InjectionSettings", "Redirection", "Refusal", "inject", "redirect_ruleset"]
