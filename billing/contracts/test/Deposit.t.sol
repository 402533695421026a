// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Settlement} from "../src/Settlement.sol";
import {Permits} from "./Permits.sol";
import {Scene} from "./Scene.sol";

contract DepositTest is Scene, Permits {
    function testFuzz_ADepositIsCreditedToTheAccount(bytes32 account, uint256 amount) public {
        vm.assume(account != 0 && account != PUBLISHER);
        amount = within(amount, 1, token.balanceOf(HOLDER));
        depositFor(account, amount);
        vm.assertEq(settlement.deposited(account), amount);
        vm.assertEq(settlement.totalDeposited(), ESCROW + amount);
        vm.assertEq(token.balanceOf(address(settlement)), ESCROW + amount);
    }

    function test_ItSaysWhoDepositedForWhom() public {
        vm.startPrank(HOLDER);
        token.approve(address(settlement), 5);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Deposited(PUBLISHER, HOLDER, 5);
        settlement.deposit(PUBLISHER, 5);
        vm.stopPrank();
    }

    function test_NothingOrForNobodyIsRefused() public {
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDeposit.selector, PUBLISHER, 0));
        settlement.deposit(PUBLISHER, 0);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDeposit.selector, 0, 1));
        settlement.deposit(0, 1);
    }

    function test_WithoutApprovalItIsRefused() public {
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(settlement), 0, 1));
        vm.prank(HOLDER);
        settlement.deposit(PUBLISHER, 1);
    }

    function test_MoreThanTheCounterHoldsIsRefused() public {
        uint256 amount = uint256(type(uint72).max) + 1;
        refuses(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 72, amount));
        settlement.deposit(PUBLISHER, amount);
    }

    function test_APermitReplacesTheApproval() public {
        (uint8 v, bytes32 r, bytes32 s) = _payerAndPermit(50, 50);
        vm.prank(signer());
        settlement.depositWithPermit(PUBLISHER, 50, vm.getBlockTimestamp(), v, r, s);
        vm.assertEq(settlement.deposited(PUBLISHER), ESCROW + 50);
    }

    function test_APermitSomebodySentFirstStillDeposits() public {
        (uint8 v, bytes32 r, bytes32 s) = _payerAndPermit(50, 50);
        vm.prank(STRANGER);
        token.permit(signer(), address(settlement), 50, vm.getBlockTimestamp(), v, r, s);
        vm.prank(signer());
        settlement.depositWithPermit(PUBLISHER, 50, vm.getBlockTimestamp(), v, r, s);
        vm.assertEq(settlement.deposited(PUBLISHER), ESCROW + 50);
    }

    function test_AnotherCannotUseThePermit() public {
        (uint8 v, bytes32 r, bytes32 s) = _payerAndPermit(50, 50);
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(settlement), 0, 50));
        vm.prank(STRANGER);
        settlement.depositWithPermit(PUBLISHER, 50, vm.getBlockTimestamp(), v, r, s);
    }

    function test_AWrongPermitIsRefusedByTheToken() public {
        (uint8 v, bytes32 r, bytes32 s) = _payerAndPermit(50, 49);
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(settlement), 0, 50));
        vm.prank(signer());
        settlement.depositWithPermit(PUBLISHER, 50, vm.getBlockTimestamp(), v, r, s);
    }

    function _payerAndPermit(uint256 amount, uint256 permitted) private returns (uint8, bytes32, bytes32) {
        vm.prank(HOLDER);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(signer(), amount);
        return permit(token, address(settlement), permitted, vm.getBlockTimestamp());
    }
}
