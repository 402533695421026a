// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Intercoin} from "../src/Intercoin.sol";
import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";
import {Test} from "./Test.sol";

/// @dev Does allowed things in any order. Remembers the highest amount it ever saw each owner paid.
contract Handler is Test {
    address internal constant OPERATOR = address(0xA1);
    address internal constant GUARDIAN = address(0xA2);
    address internal constant SALE = address(0xB1);

    Intercoin internal immutable token;
    Settlement internal immutable settlement;
    address[2] public owners = [address(0xC1), address(0xC2)];
    mapping(uint256 epoch => uint256[2]) internal _cumulative;
    uint256[2] internal _earned;
    bool public paidFell;
    uint256[2] public paidBefore;

    constructor(Intercoin token_, Settlement settlement_) {
        token = token_;
        settlement = settlement_;
    }

    function deposit(uint256 account, uint256 amount) external {
        uint256 left = token.balanceOf(SALE);
        if (left == 0) return;
        amount = within(amount, 1, left);
        vm.startPrank(SALE);
        token.approve(address(settlement), amount);
        settlement.deposit(owners[account % 2], amount);
        vm.stopPrank();
    }

    function settle(uint256 first, uint256 second) external {
        uint256 free = settlement.totalDeposited() - _earned[0] - _earned[1];
        first = within(first, 0, free / 2);
        second = within(second, 0, free / 2);
        _earned[0] += first;
        _earned[1] += second;
        uint256 epoch = settlement.nextEpoch();
        _cumulative[epoch] = _earned;
        vm.prank(OPERATOR);
        settlement.settle(epoch, _root(epoch), 0, Settlement.Totals(uint128(_earned[0] + _earned[1]), 2, 0)); // forge-lint: disable-line(unsafe-typecast)
    }

    function veto(uint256 epoch) external {
        epoch = within(epoch, 0, settlement.nextEpoch());
        Settlement.Epoch memory kept = settlement.epochs(epoch);
        if (kept.claimableAt == 0 || kept.vetoed || block.timestamp >= kept.claimableAt) return;
        vm.prank(GUARDIAN);
        settlement.veto(epoch);
    }

    function claim(uint256 epoch, uint256 which) external {
        epoch = within(epoch, 0, settlement.nextEpoch());
        which = which % 2;
        uint256 cumulative = _cumulative[epoch][which];
        if (!settlement.isClaimable(epoch) || cumulative <= settlement.paid(owners[which])) return;
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = _leaf(epoch, 1 - which);
        settlement.claim(epoch, owners[which], cumulative, proof);
        if (settlement.paid(owners[which]) < paidBefore[which]) paidFell = true;
        paidBefore[which] = settlement.paid(owners[which]);
    }

    function wait(uint256 time) external {
        vm.warp(block.timestamp + within(time, 1, 2 days));
    }

    function earned(uint256 which) external view returns (uint256) {
        return _earned[which];
    }

    function _leaf(uint256 epoch, uint256 which) private view returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(owners[which], _cumulative[epoch][which]))));
    }

    function _root(uint256 epoch) private view returns (bytes32) {
        (bytes32 a, bytes32 b) = (_leaf(epoch, 0), _leaf(epoch, 1));
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }
}

contract InvariantsTest is Scene {
    Handler internal handler;

    function setUp() public override {
        super.setUp();
        handler = new Handler(token, settlement);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_SupplyIsConstant() public view {
        vm.assertEq(token.totalSupply(), 25_000_000 * 10 ** 9);
    }

    function invariant_PaidNeverExceedsDeposited() public view {
        vm.assertLe(settlement.totalPaid(), settlement.totalDeposited());
    }

    function invariant_TheContractHoldsWhatItOwes() public view {
        vm.assertEq(token.balanceOf(address(settlement)), settlement.totalDeposited() - settlement.totalPaid());
    }

    function invariant_PaidOnlyGrowsAndNeverPassesWhatWasEarned() public view {
        vm.assertFalse(handler.paidFell());
        vm.assertLe(settlement.paid(OWNER), handler.earned(0));
        vm.assertLe(settlement.paid(OTHER_OWNER), handler.earned(1));
    }

    function invariant_TotalsAreTheSumsOfTheirParts() public view {
        vm.assertEq(settlement.totalPaid(), settlement.paid(OWNER) + settlement.paid(OTHER_OWNER));
        vm.assertEq(settlement.totalPaid(), token.balanceOf(OWNER) + token.balanceOf(OTHER_OWNER));
    }
}
