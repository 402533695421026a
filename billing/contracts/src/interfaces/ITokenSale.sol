// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @dev What the founders' vault needs of {TokenSale}.
interface ITokenSale {
    /// @dev Amounts in base units of NTC, the price in nano-dollars for one NTC, times in seconds since 1970; 0: not yet.
    struct Round {
        uint64 target;
        uint64 sold;
        uint64 carried;
        uint64 priceNanoUsd;
        uint64 openedAt;
        uint64 closedAt;
    }

    function round(uint8 number) external view returns (Round memory);
}
