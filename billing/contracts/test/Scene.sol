// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Intercoin} from "../src/Intercoin.sol";
import {Settlement} from "../src/Settlement.sol";
import {Test} from "./Test.sol";
import {Trees} from "./Trees.sol";

/// @dev The cast and the token with its escrow, as every test of Settlement finds them.
abstract contract Scene is Test, Trees {
    address internal constant ADMIN = address(0xA0);
    address internal constant OPERATOR = address(0xA1);
    address internal constant GUARDIAN = address(0xA2);
    address internal constant STRANGER = address(0xA3);
    address internal constant HOLDER = address(0xB1);
    address internal constant FOUNDERS = address(0xB2);
    address internal constant OWNER = address(0xC1);
    address internal constant OTHER_OWNER = address(0xC2);
    bytes32 internal constant PUBLISHER = keccak256("a publisher's account");
    uint64 internal constant DELAY = 1 days;
    uint256 internal constant ESCROW = 1_000_000 * 10 ** 9;
    bytes32 internal constant USAGE = keccak256("usage");

    Intercoin internal token;
    Settlement internal settlement;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        token = new Intercoin(HOLDER, FOUNDERS);
        settlement = new Settlement(token, DELAY, ADMIN, OPERATOR, GUARDIAN);
        depositFor(PUBLISHER, ESCROW);
    }

    function depositFor(bytes32 account, uint256 amount) internal {
        vm.startPrank(HOLDER);
        token.approve(address(settlement), amount);
        settlement.deposit(account, amount);
        vm.stopPrank();
    }

    function totals(uint256 cumulative) internal pure returns (Settlement.Totals memory) {
        uint128[5] memory meters = [uint128(5 * 10 ** 12), 9 * 10 ** 15, 7 * 10 ** 15, 36 * 10 ** 8, 1200];
        // forge-lint: disable-next-line(unsafe-typecast)
        return Settlement.Totals({cumulative: uint96(cumulative), accounts: 2, statements: 3, meters: meters});
    }

    /// @dev Settles the next epoch and returns it as a claimer has to show it.
    function settleRoot(bytes32 root, uint256 cumulative) internal returns (Settlement.Epoch memory epoch) {
        epoch = Settlement.Epoch({
            number: settlement.nextEpoch(),
            claimableAt: uint64(vm.getBlockTimestamp()) + DELAY,
            payoutRoot: root,
            usageRoot: USAGE,
            cumulative: uint96(cumulative) // forge-lint: disable-line(unsafe-typecast)
        });
        vm.prank(OPERATOR);
        settlement.settle(epoch.number, root, USAGE, totals(cumulative));
    }

    /// @dev Settles two owners' cumulative amounts.
    function settlePair(uint256 owner, uint256 other) internal returns (Settlement.Epoch memory) {
        return settleRoot(pair(leaf(OWNER, owner), leaf(OTHER_OWNER, other)), owner + other);
    }

    function veto(uint64 epoch) internal {
        vm.prank(GUARDIAN);
        settlement.veto(epoch);
    }

    function pass(uint256 secondsLater) internal {
        vm.warp(vm.getBlockTimestamp() + secondsLater);
    }
}
