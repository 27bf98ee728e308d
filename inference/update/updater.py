"""Bayesian update: a prior and observations in, the posterior and its quality out.

`router` says which method answers.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.amortised import Amortised
from beliefstream.inference.update.check.simulated_p_value import simulated_p_value
from beliefstream.inference.update.devices import DeviceCapacity, DeviceNetwork, OutOfMemory, is_memory
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.router import Router
from beliefstream.inference.update.settings import UpdateSettings

__all__ = ["Answer", "Method", "UpdateSettings", "Updater"]


class Updater:
    """Updates beliefs with observations, by the network or in closed form; tensors in and out are float64 on the CPU.

    Args:
        network: copied to `device` and `dtype` if it is elsewhere; one that is on its device already stays there.
        device: where the network runs; the CPU by default.
        settings: accuracy against cost.
        dtype: precision of the network. In float32 sums round differently in batches of different sizes, which can
            change a decision to merge or refine. In float64 an answer does not depend on the rest of its batch, except
            after refinement, whose rounds amplify the rounding.
        capacity: how many entities the device has room for.
    """

    def __init__(
        self,
        network: DistributionTransformer | DeviceNetwork,
        device: torch.device | None = None,
        settings: UpdateSettings | None = None,
        dtype: torch.dtype = torch.float32,
        capacity: DeviceCapacity | None = None,
    ) -> None:
        if not isinstance(network, DeviceNetwork):
            network = DeviceNetwork(network, device or torch.device("cpu"), dtype, capacity)
        self._network, self.settings = network, settings or UpdateSettings()
        self._router = Router(Amortised(network, self.settings), self.settings)
        self._others: dict[int, Updater] = {}  # by their number of components

    @property
    def network(self) -> DistributionTransformer:
        return self._network.network

    @property
    def device(self) -> torch.device:
        return self._network.device

    def with_components(self, components: int) -> Updater:
        """The same updater with another limit on the number of components."""
        if components == self.settings.components:
            return self
        if components not in self._others:
            self._others[components] = self.with_settings(replace(self.settings, components=components))
        return self._others[components]

    def with_settings(self, settings: UpdateSettings) -> Updater:
        """An updater of the same network with other settings."""
        return Updater(self._network, settings=settings)

    @property
    def has_closed_forms(self) -> bool:
        """Whether answers in closed form may come from elsewhere; not of a subclass with an update of its own."""
        return type(self).update is Updater.update

    @torch.inference_mode()
    def update(self, prior: GaussianMixture, observations: Observations, *, simulated: bool = True) -> Answer:
        """Posterior of every entity, from `prior` ``(B, K, D)`` and `observations` over the same ``D`` coordinates.

        `simulated` is whether the p-values of a user's likelihoods come from its simulator; otherwise they are rough.

        Raises ValueError if batch or dimension differ, or an entity has no observation; OutOfMemory if there is none.
        """
        _validate(prior, observations)
        try:
            update = self._router.answer(prior, observations)
            if simulated and observations.likelihoods is not None:
                p_value = simulated_p_value(prior, observations, update.p_value)
                return update.with_p_value(p_value)
        except RuntimeError as error:
            if not is_memory(error):
                raise
            raise OutOfMemory(f"update: no memory for {prior.batch} entities") from error
        return update


def _validate(prior: GaussianMixture, observations: Observations) -> None:
    if prior.batch != observations.batch or prior.dimension != observations.dimension:
        raise ValueError(
            f"observations: {observations.batch} × {observations.dimension} coordinates do not match a prior of "
            f"{prior.batch} × {prior.dimension}"
        )
    if not bool(observations.mask.any(1).all()):
        raise ValueError("observations: every entity needs at least one")
