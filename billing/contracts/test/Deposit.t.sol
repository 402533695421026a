// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";

contract DepositTest is Scene {
    uint256 internal constant KEY = 0xC0FFEE;

    function testFuzz_ADepositIsCreditedToTheAccount(address account, uint256 amount) public {
        vm.assume(account != address(0) && account != SALE);
        amount = within(amount, 1, token.balanceOf(SALE));
        depositFor(account, amount);
        vm.assertEq(settlement.deposited(account), amount);
        vm.assertEq(settlement.totalDeposited(), ESCROW + amount);
        vm.assertEq(token.balanceOf(address(settlement)), ESCROW + amount);
    }

    function test_ItSaysWhoDepositedForWhom() public {
        vm.startPrank(SALE);
        token.approve(address(settlement), 5);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit Settlement.Deposited(OWNER, SALE, 5);
        settlement.deposit(OWNER, 5);
        vm.stopPrank();
    }

    function test_NothingOrForNobodyIsRefused() public {
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDeposit.selector, OWNER, 0));
        settlement.deposit(OWNER, 0);
        refuses(abi.encodeWithSelector(Settlement.SettlementInvalidDeposit.selector, address(0), 1));
        settlement.deposit(address(0), 1);
    }

    function test_WithoutApprovalItIsRefused() public {
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(settlement), 0, 1));
        vm.prank(SALE);
        settlement.deposit(OWNER, 1);
    }

    function test_APermitReplacesTheApproval() public {
        address payer = _payer(50);
        (uint8 v, bytes32 r, bytes32 s) = _permit(payer, 50);
        vm.prank(payer);
        settlement.depositWithPermit(OWNER, 50, block.timestamp, v, r, s);
        vm.assertEq(settlement.deposited(OWNER), 50);
    }

    function test_APermitSomebodySentFirstStillDeposits() public {
        address payer = _payer(50);
        (uint8 v, bytes32 r, bytes32 s) = _permit(payer, 50);
        vm.prank(STRANGER);
        token.permit(payer, address(settlement), 50, block.timestamp, v, r, s);
        vm.prank(payer);
        settlement.depositWithPermit(OWNER, 50, block.timestamp, v, r, s);
        vm.assertEq(settlement.deposited(OWNER), 50);
    }

    function test_AWrongPermitIsRefusedByTheToken() public {
        address payer = _payer(50);
        (uint8 v, bytes32 r, bytes32 s) = _permit(payer, 49);
        refuses(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(settlement), 0, 50));
        vm.prank(payer);
        settlement.depositWithPermit(OWNER, 50, block.timestamp, v, r, s);
    }

    function _payer(uint256 amount) private returns (address payer) {
        payer = vm.addr(KEY);
        vm.prank(SALE);
        // forge-lint: disable-next-line(erc20-unchecked-transfer)
        token.transfer(payer, amount);
    }

    function _permit(address payer, uint256 amount) private view returns (uint8, bytes32, bytes32) {
        bytes32 permit = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content = keccak256(abi.encode(permit, payer, address(settlement), amount, 0, block.timestamp));
        return vm.sign(KEY, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), content)));
    }
}
